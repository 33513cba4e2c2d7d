"""The CPU's instruction sets, by Linux' names: as /proc/cpuinfo lists them, and as this process really has them.

Under emulation (qemu-user) and where a hypervisor masks CPUID from a process, /proc/cpuinfo describes another CPU than
the one that runs: of 8-bit kernels that it promises, none would be there. numpy asks the CPU itself.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path

from .cpus import read_text

# The line of /proc/cpuinfo by architecture.
LINES = {"x86_64": "flags", "aarch64": "Features"}
# numpy's name -> Linux' name.
NUMPY = {
    **{"SSSE3": "ssse3", "SSE41": "sse4_1", "SSE42": "sse4_2", "POPCNT": "popcnt", "F16C": "f16c", "FMA3": "fma"},
    **{"AVX": "avx", "AVX2": "avx2", "AVX512F": "avx512f", "AVX512BW": "avx512bw", "AVX512VL": "avx512vl"},
    **{"AVX512VNNI": "avx512_vnni", "AVX512BF16": "avx512_bf16", "AVX512FP16": "avx512_fp16"},
    **{"ASIMD": "asimd", "ASIMDHP": "asimdhp", "ASIMDDP": "asimddp", "SVE": "sve"},
}


def read_instruction_sets(arch: str) -> frozenset[str] | None:
    """Return the instruction sets of the CPU that runs this process; None where they cannot be read (not Linux).

    Args:
        arch: of this process, "x86_64" or "aarch64".
    """
    return reconcile(arch, read_text(Path("/proc/cpuinfo")), ask_cpu())


def is_emulated(arch: str) -> bool:
    """Return whether /proc/cpuinfo describes another CPU than the one that runs this process."""
    text = read_text(Path("/proc/cpuinfo"))
    if text is None:
        return False
    listed = _parse(arch, text)
    return listed is None or _contradicts(listed, ask_cpu())


def reconcile(arch: str, cpuinfo: str | None, present: Mapping[str, bool]) -> frozenset[str] | None:
    """Return the instruction sets that /proc/cpuinfo lists, or those that the CPU confirms where it contradicts.

    Args:
        arch: of the process.
        cpuinfo: the file's text; None if there is none.
        present: Linux' name -> whether the CPU has it, of those that could be asked; empty if none could.
    """
    if cpuinfo is None:
        return None
    listed = _parse(arch, cpuinfo)
    confirmed = frozenset(name for name, has in present.items() if has)
    if listed is None:
        return confirmed or None
    return listed & confirmed if _contradicts(listed, present) else listed


def ask_cpu() -> dict[str, bool]:
    """Return Linux' name -> whether the CPU has it, for the instruction sets that numpy asks for; {} if it cannot."""
    try:
        core = importlib.import_module("numpy._core._multiarray_umath")
    except ImportError:  # numpy before 2
        return {}
    features: Mapping[str, bool] = getattr(core, "__cpu_features__", {})
    return {linux: bool(features[name]) for name, linux in NUMPY.items() if name in features}


def _contradicts(listed: frozenset[str], present: Mapping[str, bool]) -> bool:
    return any(name in listed and not has for name, has in present.items())


def _parse(arch: str, cpuinfo: str) -> frozenset[str] | None:
    """Return what the first CPU's line lists; None if there is no line of this architecture."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == LINES.get(arch):
            return frozenset(value.split())
    return None
