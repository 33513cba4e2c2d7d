"""One base model: the schema of `model` in params.yaml."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stages.common.config.strict import Strict


def _require_commit(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", value):
        raise ValueError("expected the 40 hex digits of a commit; branches, tags and short hashes move")
    return value


def _require_data_file(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != value or "\\" in value:
        raise ValueError("expected the path of a file inside the model folder, such as 1_Pooling/config.json")
    if path.suffix not in MODEL_FORMATS:
        raise ValueError(f"a base model may have {', '.join(MODEL_FORMATS)} files only: other formats can carry code")
    return value


# Formats of a base model's files: data that nothing executes or unpickles.
MODEL_FORMATS = (".json", ".model", ".safetensors", ".txt")
# What shapes vectors beside a model's files; dvc.yaml names the same keys as parameters of the stages.
VECTOR_SETTINGS = {"repo", "revision", "matryoshka", "max_tokens", "prompts"}
# Tasks that an Android app names: TaskType of Google's AI Edge RAG SDK.
AppTask = Literal[
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "CODE_RETRIEVAL",
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Revision = Annotated[str, AfterValidator(_require_commit)]
ModelFile = Annotated[str, AfterValidator(_require_data_file)]


class License(Strict):
    """The base model's licence.

    Attributes:
        name: SPDX id, or its name.
        url: where its text is.
        gated: whether the hub asks users to accept it before a download.
    """

    name: str
    url: str
    gated: bool


class Model(Strict):
    """One base model: where its files come from, their checksums, and how it is used.

    Attributes:
        name: the option's name in conf/model.
        source: an installed package, the hub, or a local folder.
        repo: its name on the hub.
        revision: commit of that repository, 40 hex digits.
        package: importable module with a model/ folder, for source=package.
        folder: a SentenceTransformer folder, for source=folder.
        files: file name -> SHA-256; None checks the file against the hub's own digest only.
        license: the model's licence.
        parameters: how many weights it has; None if nobody has counted.
        dimensions: length of a full vector.
        matryoshka: vector lengths to evaluate.
        max_tokens: longest input; longer ones are truncated.
        prompts: prompt name -> text before an input; names are mteb's prompt and task types. An empty text stands for
            none; download requires a text, or an empty one, for each of the model's own (docs/models.md).
        app_prompts: task -> text before an input, where none of `prompts` is meant for the task.
    """

    name: str
    source: Literal["package", "hub", "folder"]
    repo: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    revision: Revision
    package: str | None = Field(pattern=r"^[A-Za-z_]\w*$")
    folder: str | None
    files: dict[ModelFile, Sha256 | None] = Field(min_length=1)
    license: License
    parameters: Annotated[int, Field(gt=0)] | None = None
    dimensions: int = Field(gt=0)
    matryoshka: list[int]
    max_tokens: int = Field(gt=0)
    prompts: dict[str, str]
    app_prompts: dict[AppTask, str] = Field(default={})

    def vector_settings(self) -> dict[str, object]:
        """Return the settings that shape vectors, as JSON values for a stage's manifest."""
        return self.model_dump(mode="json", include=VECTOR_SETTINGS)

    @model_validator(mode="after")
    def _require_source(self) -> "Model":
        if self.source == "package" and not self.package:
            raise ValueError("source=package needs model.package, the name of an installed module")
        if self.source == "folder" and not self.folder:
            raise ValueError("source=folder needs model.folder=PATH")
        if any(not 0 < length <= self.dimensions for length in self.matryoshka):
            raise ValueError(f"matryoshka dimensions must be between 1 and {self.dimensions}")
        return self
