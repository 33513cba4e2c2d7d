"""What all records are: frozen, typed, written as canonical JSON, refused if a file holds something else."""

from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from embed_foundry import IntegrityError, manifest
from embed_foundry.errors import one_line
from embed_foundry.system_errors import retryable_error
from pydantic import BaseModel, ConfigDict, RootModel, SerializerFunctionWrapHandler, ValidationError, model_serializer

Value = TypeVar("Value")


class JsonFile:
    """Reading and writing a pydantic model as a file of its own."""

    # The DVC stage that writes the file, for the next step of an error.
    stage: ClassVar[str] = ""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of a verified folder.

        Raises:
            IntegrityError: missing, or not what this version of the stage writes.
        """
        assert issubclass(cls, BaseModel)  # noqa: S101 - a mix-in
        step = f"Next: dvc repro {cls.stage}." if cls.stage else "Build it again."
        try:
            return cls.model_validate_json(path.read_bytes(), strict=True)  # a number in quotes is no number
        except OSError as error:
            raise retryable_error(error, path) or IntegrityError(
                f"{path}: cannot be read ({error.strerror}). {step}"
            ) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = one_line(".".join(map(str, first["loc"]))) or "the whole file"
            raise IntegrityError(
                f"{path}: {where:.200}: {first['msg']}; expected what {cls.__name__} describes. {step}"
            ) from None

    def dump(self) -> bytes:
        """Return the one JSON encoding that `load` reads back: sorted keys, no NaN."""
        assert isinstance(self, BaseModel)  # noqa: S101 - a mix-in
        return manifest.canonical(self.model_dump(mode="json"))


class Record(JsonFile, BaseModel):
    """A record with named fields. Unknown keys are refused, so that a layout cannot change unnoticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AliasedRecord(Record):
    """A record with keys that no Python field can have; fields name them by alias."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)


class SparseRecord(Record):
    """A record whose missing figures are left out of the file: None has no key there, unless named in `nullable`."""

    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        return {name: value for name, value in values.items() if value is not None or name in self.nullable}


class MappingRecord(JsonFile, RootModel[Value], Generic[Value]):
    """A record that is one mapping, as `root`."""

    model_config = ConfigDict(frozen=True)


class Failure(Record):
    """Takes the place of figures that could not be measured, and says why."""

    error: str
