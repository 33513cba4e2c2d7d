"""How much disk a training fills, so that too small a one is refused before the work."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from embed_foundry import manifest
from safetensors import safe_open

from stages.common.contract.output import folder_size

FP32_BYTES = 4
# A checkpoint of all weights holds them and AdamW's two moments of each.
CHECKPOINT_COPIES = 3
# The best one, the last one, and the next one, which is written before an older one is removed.
CHECKPOINTS = 3


@dataclass(frozen=True)
class DiskNeeds:
    """Bytes that a training fills at its peak.

    Attributes:
        scratch: where checkpoints are; after training less stays there than the output takes then, so that one disk
            for both needs the larger of the two numbers.
        out: of the output folder.
    """

    scratch: int
    out: int


def estimate_disk(method: str, base: Path) -> DiskNeeds:
    """Return what a training of a base model's folder fills, by method: lora, qlora or full.

    An adapter has about a hundredth of the weights, so one copy of them is room enough for its checkpoints.
    """
    weights = _count_weights(base) * FP32_BYTES  # the merged model is fp32, whatever the base model is
    merged = weights + folder_size(base)  # the other files, at most
    if method == "full":
        return DiskNeeds(scratch=CHECKPOINTS * CHECKPOINT_COPIES * weights, out=weights + merged)
    return DiskNeeds(scratch=weights, out=merged)


def _count_weights(base: Path) -> int:
    """Return the number of weights in a folder's safetensors files."""
    count = 0
    for name in manifest.files_of(base):
        if name.endswith(".safetensors"):
            with safe_open(base / name, framework="np") as file:
                count += sum(prod(file.get_slice(tensor).get_shape()) for tensor in file.keys())  # noqa: SIM118
    return count
