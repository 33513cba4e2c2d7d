"""What all conversions share: their signature, folders and result, libraries, and their number of threads."""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stages.common.config.variant import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Threads during conversion and parity. Sums depend on how they are split, so the number is the same on every host.
THREADS = 2
# What loads the base model, and what exports it to ONNX.
MODEL_LIBRARIES = ("sentence-transformers", "torch", "transformers")
GRAPH_LIBRARIES = ("onnx", "onnxscript", *MODEL_LIBRARIES)


@dataclass(frozen=True)
class Folders:
    """Where a conversion reads and writes.

    Attributes:
        base: the verified SentenceTransformer folder.
        work: the folder that becomes the variant's.
        cache: intermediate results that later conversions reuse; safe to delete.
    """

    base: Path
    work: Path
    cache: Path


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion reports about the files it wrote.

    Attributes:
        files: role to file name, as the encoder of the kind expects.
        dimensions: length of a full vector.
        recipe_entries: values to add to the recipe in variant.json.
        own_space: the vectors cannot be compared with the base model's.
        batching: which texts may share a call, as in the variant's record.
        caveat: what makes the conversion risky for this model; added to the error if its encoder fails.
        fault: an error that the conversion found in its own files; the gate then never passes the variant.
        max_tokens: longest input that the files take; None if the model's own limit holds.
        tokens_per_token: the most tokens that the files' own tokenizer makes of a token of the base model's.
        exact: the vectors are the base model's but for the last bits.
    """

    files: dict[str, str]
    dimensions: int
    recipe_entries: dict[str, object] = field(default_factory=dict)
    own_space: bool = False
    batching: str = "padded"
    caveat: str = ""
    fault: str = ""
    max_tokens: int | None = None
    tokens_per_token: float = 1
    exact: bool = False


class Converter(Protocol):
    """The module stages/convert/KIND.py, which converts variants of that kind.

    Attributes:
        LIBRARIES: distributions whose versions shape a variant's bytes.
    """

    LIBRARIES: tuple[str, ...]

    def convert(self, folders: Folders, recipe: Recipe) -> ConversionResult:
        """Write the variant's files into `folders.work`; the recipe is of the module's own kind."""


def measure_dimensions(model: "SentenceTransformer") -> int:
    """Return the length of a model's vectors, by one text.

    `get_embedding_dimension` gives what files say, which is the length before a projection inside a transformer.
    """
    return len(model.encode("a", show_progress_bar=False))


def first_line(error: Exception) -> str:
    """Return the first line of an exporter's error, which may have hundreds; its type if it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def load_converter(kind: str) -> Converter:
    """Import the module that converts a kind of variant."""
    converter: Converter = import_module(f"stages.convert.{kind}")
    return converter
