"""Ollama's API as far as embedding goes: /api/embed, /api/embeddings, /api/tags, /api/show, /api/ps, /api/version, /.

Differences: `options` and `keep_alive` are read and ignored, for a release fixes how it encodes, and the service's own
rules say what stays in memory. An unknown field is refused, and so are models that are no longer, or not yet, served.
"""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from ..answers import dump_rows
from ..names import LATEST
from ..refusals import OVERLOADED, TOO_MANY_REQUESTS, RefusalError
from ..requests import AUTO
from ..service import Service
from .body import Body
from .catalog import Catalog, Model
from .dialect import Dialect
from .door import EMBEDDING, READING, Door
from .exchange import Exchange
from .fields import DIMENSIONS, MODEL, AnyTexts, Dimensions, Name, Text

NANOSECONDS = 1e9
# Ollama says when a model will be unloaded; here that depends on its use.
NEVER = "9999-12-31T23:59:59Z"


class _Call(Body):
    model: Name = Field(description=MODEL + ' ":latest" after it is read over.', examples=[AUTO])
    options: dict[str, Any] | None = Field(None, description="Ignored: a release fixes how it encodes.")
    keep_alive: str | float | int | None = Field(None, description="Ignored: the service's own rules decide.")


class EmbedBody(_Call):
    """A request for embeddings. Without input it only asks whether the model is there, as clients do to load it."""

    input: AnyTexts | None = Field(None, description="One text or several.")
    truncate: bool | None = Field(
        None, description="Whether texts over the token limit are truncated (default) or refused."
    )
    dimensions: Dimensions | None = Field(None, description=DIMENSIONS)


class EmbedAnswer(BaseModel):
    """The vectors of a request; durations are in nanoseconds."""

    model: str = Field(description="The variant that computed them.")
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = Field(0, description="Tokens as computed, after truncation.")


class OldBody(_Call):
    """A request of the old kind, for one text."""

    prompt: Text = Field((), description="The text.")


class OldAnswer(BaseModel):
    """The vector of a request of the old kind."""

    embedding: list[float]


class Details(BaseModel):
    """What kind of model a name stands for."""

    parent_model: str = ""
    format: str = Field(description="The variant's kind.")
    family: str = Field(description="The model's name.")
    families: list[str]
    parameter_size: str = ""
    quantization_level: str = Field(description="Precision of the weights.")


class Tag(BaseModel):
    """A name that a request may use."""

    name: str
    model: str
    modified_at: str
    size: int = Field(description="Of its files, in bytes.")
    digest: str = Field(description="Of its files.")
    details: Details


class Tags(BaseModel):
    """All names that a request may use."""

    models: list[Tag]


class Running(BaseModel):
    """A variant in memory."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int = 0
    context_length: int


class RunningList(BaseModel):
    """The variants in memory."""

    models: list[Running]


class ShowBody(Body):
    """Which model to describe."""

    model: Name | None = Field(None, examples=["auto"])
    name: Name | None = Field(None, description="The old name of `model`.")
    verbose: bool | None = Field(None, description="Ignored.")
    system: str | None = Field(None, description="Ignored.")
    options: dict[str, Any] | None = Field(None, description="Ignored.")


class ShowAnswer(BaseModel):
    """What a name stands for."""

    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    license: str
    details: Details
    model_info: dict[str, str | int | list[str]]
    capabilities: list[str]
    modified_at: str


class VersionAnswer(BaseModel):
    """The version of the service."""

    version: str


class ErrorBody(BaseModel):
    """A refusal; `code` is ours."""

    error: str
    code: str


def write_error(refusal: RefusalError, _status: int) -> ErrorBody:
    """Return a refusal as Ollama's clients read it."""
    return ErrorBody(error=refusal.message, code=refusal.reason.code)


# Ollama answers 503 when its queue is full.
DIALECT = Dialect("ollama", "Ollama", ErrorBody, write_error, {OVERLOADED: 503, TOO_MANY_REQUESTS: 503})


def router(service: Service) -> APIRouter:
    """Return the door's routes."""
    door = Door(DIALECT, service)
    door.add("POST", "/api/embed", embed, summary="Embed texts", answer=EmbedAnswer, body=EmbedBody, reasons=EMBEDDING)
    door.add(
        "POST",
        "/api/embeddings",
        embed_old,
        summary="Embed one text, as older clients ask",
        answer=OldAnswer,
        body=OldBody,
        reasons=EMBEDDING,
    )
    door.add("GET", "/api/tags", list_tags, summary="List the names that a request may use", answer=Tags)
    door.add("POST", "/api/show", show, summary="Describe a model", answer=ShowAnswer, body=ShowBody, reasons=READING)
    door.add("GET", "/api/ps", list_running, summary="List the variants in memory", answer=RunningList)
    door.add(
        "GET", "/api/version", get_version, summary="The version of the service", answer=VersionAnswer, waits=False
    )
    return door.routes


async def embed(exchange: Exchange) -> Response:
    """Embed texts; a call without any only finds the model, as Ollama's does."""
    body = await exchange.read(EmbedBody, any_type=True)
    if not body.input or body.input == ("",):
        model = exchange.catalog.find(body.model)
        answer = EmbedAnswer(model=model.variant.name, embeddings=[])
        return exchange.reply(answer.model_dump(), exchange.catalog.headers(model))
    computed = await exchange.embed(
        body.input, body.model, dimensions=body.dimensions, truncate=body.truncate is not False
    )
    return exchange.reply(
        {
            "model": computed.variant,
            "embeddings": await dump_rows(computed.vectors, computed.vectors.shape[1]),
            "total_duration": int(exchange.seconds * NANOSECONDS),
            "load_duration": int(computed.timings.load_s * NANOSECONDS),
            "prompt_eval_count": sum(computed.tokens),
        }
    )


async def embed_old(exchange: Exchange) -> Response:
    """Embed one text, as older clients ask."""
    body = await exchange.read(OldBody, any_type=True)
    if body.prompt in ((), ("",)):
        model = exchange.catalog.find(body.model)
        return exchange.reply({"embedding": []}, exchange.catalog.headers(model))
    answer = await exchange.embed(body.prompt, body.model)
    return exchange.reply({"embedding": np.asarray(answer.vectors[0])})


async def list_tags(exchange: Exchange) -> Response:
    """List the names that a request may use."""
    catalog = exchange.catalog
    return exchange.reply(Tags(models=[_describe(catalog, model) for model in catalog.list_models()]).model_dump())


async def show(exchange: Exchange) -> Response:
    """Describe a model."""
    body = await exchange.read(ShowBody, any_type=True)
    catalog = exchange.catalog
    model = catalog.find(body.model or body.name or "")
    variant, family = model.variant, catalog.bundle.contract.model
    answer = ShowAnswer(
        license=catalog.license,
        details=_details(catalog, model),
        model_info={
            "general.architecture": family,
            "general.basename": variant.model,
            f"{family}.context_length": variant.max_tokens,
            f"{family}.embedding_length": variant.dimensions,
            "foundry.variant": variant.name,
            "foundry.space_id": variant.space_id,
            "foundry.prompts": sorted(variant.prompts),
        },
        capabilities=["embedding"],
        modified_at=_date(catalog),
    )
    return exchange.reply(answer.model_dump())


async def list_running(exchange: Exchange) -> Response:
    """List the variants in memory."""
    catalog = exchange.catalog
    models = []
    for name in catalog.loaded:
        model = catalog.find(name)
        tag = _describe(catalog, model).model_dump(exclude={"modified_at"})
        models.append(Running(**tag, expires_at=NEVER, context_length=model.variant.max_tokens))
    return exchange.reply(RunningList(models=models).model_dump())


async def get_version(exchange: Exchange) -> Response:
    """Say which version this is."""
    return exchange.reply({"version": version("embed-foundry")})


def _describe(catalog: Catalog, model: Model) -> Tag:
    name = f"{model.name}:{LATEST}"
    return Tag(
        name=name,
        model=name,
        modified_at=_date(catalog),
        size=round(model.shipped.size_mb * 1e6),
        digest=model.shipped.digest,
        details=_details(catalog, model),
    )


def _details(catalog: Catalog, model: Model) -> Details:
    family = catalog.bundle.contract.model
    return Details(
        format=model.variant.kind, family=family, families=[family], quantization_level=model.variant.precision
    )


def _date(catalog: Catalog) -> str:
    return datetime.fromtimestamp(catalog.created, UTC).isoformat().replace("+00:00", "Z")
