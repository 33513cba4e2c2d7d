"""What every conversion room has: its signature, its result, and its number of threads."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

# Threads during conversion and parity. Sums depend on how they are split, so this is fixed, not the host's number.
THREADS = 2


@dataclass(frozen=True)
class ConversionResult:
    """What a family's conversion reports about the files it wrote.

    Attributes:
        files: role to file name, as the encoder of the kind expects.
        dimensions: length of a full vector.
        facts: further facts for variant.json's recipe.
        own_space: the vectors cannot be compared with the base model's.
        batching: which texts may share a call, as in the variant's record.
        caveat: what speaks against the conversion of this model; told if its encoder fails.
        fault: what the conversion itself found wrong with its files; no gate lets such a variant pass.
        max_tokens: longest input that the files take; None if the model's own limit holds.
    """

    files: dict[str, str]
    dimensions: int
    facts: dict[str, Any] = field(default_factory=dict)
    own_space: bool = False
    batching: str = "padded"
    caveat: str = ""
    fault: str = ""
    max_tokens: int | None = None


class Converter(Protocol):
    """A conversion room."""

    def convert(self, base: Path, recipe: Any, work: Path) -> ConversionResult:  # noqa: ANN401 - each family has its recipe class
        """Write the variant's files into `work`."""
