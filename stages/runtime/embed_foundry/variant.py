"""variant.json: everything a runtime must know to encode with one converted variant, as data."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import IntegrityError
from .manifest import read_object

NAME = "variant.json"
SCHEMA = 1


@dataclass(frozen=True)
class Variant:
    """One converted variant of a base model.

    Attributes:
        name: the variant's name, equal to its folder's.
        kind: the encoder that runs it, a key of `kinds.KINDS`; nothing is guessed from file names.
        precision: of the weights, e.g. "fp32", "int8".
        model: the base model's name and revision, e.g. "sentence-transformers/all-MiniLM-L6-v2@<40 hex>".
        space_id: digest of what defines the vector space; vectors of two variants may meet in one index only if equal.
        dimensions: length of a full vector.
        matryoshka: lengths to which vectors were measured to truncate, the full one included, descending.
        max_tokens: longest input in tokens, special tokens included; what is over it is cut off and reported.
        prompts: prompt name to the text put before an input, as in config_sentence_transformers.json.
        files: role to file name inside the folder (tokenizer, weights …).
        recipe: the settings of the conversion.
        parity: figures of the conversion against the baseline encoder.
        pad_id: token id that fills shorter rows of a batch.
        batching: which texts may share a call of a graph: "padded" (any), "equal_length", or "single" (none).
    """

    name: str
    kind: str
    precision: str
    model: str
    space_id: str
    dimensions: int
    matryoshka: tuple[int, ...]
    max_tokens: int
    prompts: dict[str, str]
    files: dict[str, str]
    recipe: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    pad_id: int = 0
    batching: str = "padded"
    schema: int = SCHEMA

    @classmethod
    def load(cls, folder: Path) -> "Variant":
        """Read `folder/variant.json`.

        Raises:
            IntegrityError: missing, malformed, or written by a version this one cannot read.
        """
        path = folder / NAME
        raw = read_object(path, "Build the variant again.")
        if raw.get("schema") != SCHEMA:
            raise IntegrityError(
                f"{path}: has schema {raw.get('schema')}, this runtime reads {SCHEMA}. "
                "Install the runtime wheel that ships in the same bundle."
            )
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(raw) - known):
            raise IntegrityError(f"{path}: unknown keys {unknown}. Install the runtime wheel of the same bundle.")
        try:
            return cls(**raw | {"matryoshka": tuple(raw["matryoshka"])})
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"{path}: incomplete ({error}). Build the variant again.") from None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that `load` reads back."""
        return asdict(self) | {"matryoshka": list(self.matryoshka)}
