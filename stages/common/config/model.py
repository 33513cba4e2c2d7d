"""One base model: the schema of `model` in params.yaml."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stages.common.config.strict import Strict


def _commit(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", value):
        raise ValueError("expected the 40 hex digits of a commit; branches, tags and short hashes move")
    return value


def _model_file(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != value or "\\" in value:
        raise ValueError("expected a file's path inside the model folder, such as 1_Pooling/config.json")
    if path.suffix not in MODEL_FORMATS:
        raise ValueError(f"a base model takes {', '.join(MODEL_FORMATS)} only: other formats can carry code")
    return value


# What a base model's files may be: data formats that nothing executes or unpickles.
MODEL_FORMATS = (".json", ".model", ".safetensors", ".txt")
# What shapes vectors beside a model's files; dvc.yaml names the same keys as parameters of the stages.
VECTOR_SETTINGS = {"repo", "revision", "matryoshka", "max_tokens", "prompts"}
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Revision = Annotated[str, AfterValidator(_commit)]
ModelFile = Annotated[str, AfterValidator(_model_file)]


class License(Strict):
    """The base model's licence: SPDX id or name, its text's address, and whether the hub asks to accept it first."""

    name: str
    url: str
    gated: bool


class Model(Strict):
    """One base model: where its files come from, what they must be, how it is used."""

    name: str
    source: Literal["package", "hub", "folder"]
    repo: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    revision: Revision
    package: str | None = Field(pattern=r"^[A-Za-z_]\w*$")
    folder: str | None
    files: dict[ModelFile, Sha256 | None] = Field(min_length=1)
    license: License
    dimensions: int = Field(gt=0)
    matryoshka: list[int]
    max_tokens: int = Field(gt=0)
    prompts: dict[str, str]

    def vector_settings(self) -> dict[str, object]:
        """Return the settings that shape vectors, as JSON values for a stage's manifest."""
        return self.model_dump(mode="json", include=VECTOR_SETTINGS)

    @model_validator(mode="after")
    def _sources(self) -> "Model":
        if self.source == "package" and not self.package:
            raise ValueError("source=package needs model.package, a module that is installed")
        if self.source == "folder" and not self.folder:
            raise ValueError("source=folder needs model.folder=PATH")
        if any(not 0 < cut <= self.dimensions for cut in self.matryoshka):
            raise ValueError(f"matryoshka dimensions must be between 1 and {self.dimensions}")
        return self
