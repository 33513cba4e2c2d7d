"""Execution providers: what ONNX Runtime computes on, by the names that a target uses. One entry per provider."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: as in a target.
        onnx: ONNX Runtime's name.
        distribution: the package that has it.
    """

    name: str
    onnx: str
    distribution: str


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("cuda", "CUDAExecutionProvider", "onnxruntime-gpu, with an NVIDIA driver"),
        Provider("webgpu", "WebGpuExecutionProvider", "a browser with WebGPU"),
        Provider("coreml", "CoreMLExecutionProvider", "onnxruntime on macOS"),
        Provider("cpu", "CPUExecutionProvider", "onnxruntime"),
    )
}
CPU = ("cpu",)


def list_installed(names: Sequence[str], onnx: Collection[str]) -> list[str]:
    """Return those of the named providers that an ONNX Runtime has, in order; the CPU is always the last.

    Args:
        names: keys of PROVIDERS; others, of a later version, are left out.
        onnx: what `onnxruntime.get_available_providers` returned.
    """
    installed = [name for name in names if name in PROVIDERS and PROVIDERS[name].onnx in onnx and name not in CPU]
    return [*installed, *CPU]
