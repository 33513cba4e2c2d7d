"""variant.json: everything a runtime needs to know to encode with one converted variant."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ..errors import IntegrityError
from ..manifest import JsonObject, read_object

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
        space_id: digest of what defines the vector space; two variants may share an index only if theirs are equal.
        dimensions: length of a full vector.
        matryoshka: lengths that truncated vectors were measured at, and the full one, descending.
        max_tokens: longest input in tokens, special tokens included; longer inputs are truncated, with a warning.
        prompts: prompt name -> the text put before an input, as in config_sentence_transformers.json.
        files: role -> file name inside the folder (tokenizer, weights …).
        recipe: the settings of the conversion, and what it found out; each encoder reads its own part.
        parity: closeness to the base model; the build's records describe it.
        pad_id: token id that fills shorter rows of a batch.
        batching: which texts may share a call of a graph: "padded" (any), "equal_length", or "single" (none).
        truncation_side: which end a text over `max_tokens` loses: "right" or "left".
        vocabulary: rows of the model's token table; an id past them is refused. 0 if that is not known.
        pools_prompt: whether pooling includes a prompt's tokens.
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
    recipe: JsonObject = field(default_factory=dict)
    parity: JsonObject = field(default_factory=dict)
    pad_id: int = 0
    batching: str = "padded"
    truncation_side: str = "right"
    vocabulary: int = 0
    pools_prompt: bool = True
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
                f"{path}: has schema {raw.get('schema')!a:.60}, this runtime reads {SCHEMA}. "
                "Install the runtime wheel that ships in the same bundle."
            )
        if unknown := sorted(set(raw) - {attribute.name for attribute in fields(cls)}):
            raise IntegrityError(f"{path}: unknown keys {unknown}. Install the runtime wheel of the same bundle.")
        try:
            return cls(**raw | {"matryoshka": tuple(raw["matryoshka"])})
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"{path}: incomplete ({error}). Build the variant again.") from None

    def to_json(self) -> JsonObject:
        """Return the JSON value that `load` reads back."""
        return asdict(self) | {"matryoshka": list(self.matryoshka)}
