"""variant.json: everything a runtime needs to know to encode with one converted variant."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath

from ..errors import IntegrityError
from ..manifest import JsonObject, read_object

NAME = "variant.json"
SCHEMA = 1
# Of a vector in numbers, or a text in tokens; no model comes near it.
LONGEST = 1 << 24


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_length(value: object) -> bool:
    return isinstance(value, int) and _is_count(value) and 0 < value <= LONGEST


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_files(value: object) -> bool:
    """Return whether a value names files by role, all of them inside the folder."""
    return isinstance(value, dict) and all(isinstance(name, str) and _is_inside(name) for name in value.values())


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


# Field of the record -> whether a value of JSON is one of it.
_FITS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("name", "kind", "precision", "model", "space_id"), _is_text),
    **dict.fromkeys(("dimensions", "max_tokens"), _is_length),
    "matryoshka": lambda value: isinstance(value, list) and all(map(_is_length, value)),
    "prompts": _is_texts,
    "files": _is_files,
    **dict.fromkeys(("recipe", "parity"), _is_object),
    **dict.fromkeys(("pad_id", "vocabulary", "schema"), _is_count),
    "batching": lambda value: value in ("padded", "equal_length", "single"),
    "truncation_side": lambda value: value in ("left", "right"),
    "pools_prompt": lambda value: isinstance(value, bool),
}


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
        if wrong := [name for name, value in raw.items() if not _FITS[name](value)]:
            raise IntegrityError(
                f"{path}: {wrong[0]} is {raw[wrong[0]]!a:.60}, which no build writes. Build the variant again."
            )
        try:
            return cls(**raw | {"matryoshka": tuple(raw["matryoshka"])})
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"{path}: incomplete ({error}). Build the variant again.") from None

    def locate(self, folder: Path, role: str) -> Path:
        """Return the path of a file by its role.

        Raises:
            IntegrityError: the record names none.
        """
        if role not in self.files:
            raise IntegrityError(f"{folder / NAME}: names no file {role}. Build the variant again.")
        return folder / self.files[role]

    def to_json(self) -> JsonObject:
        """Return the JSON value that `load` reads back."""
        return asdict(self) | {"matryoshka": list(self.matryoshka)}
