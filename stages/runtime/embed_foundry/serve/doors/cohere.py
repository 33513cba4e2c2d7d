"""Cohere's API: POST /v2/embed and the older POST /v1/embed.

`input_type` names the prompt: Cohere's four words stand for the prompts that models have under the names of
sentence-transformers and mteb. A model without a prompt of that kind takes the text as it is, as those libraries do.
"""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from ..answers import dump_rows
from ..precision import ENCODINGS
from ..refusals import RefusalError
from ..service import Service
from .body import Body
from .dialect import Dialect
from .door import EMBEDDING, Door
from .exchange import Exchange, require_truncation_side
from .fields import DIMENSIONS, MODEL, Dimensions, ListOfTexts, Name

# The names that a kind of input may have among a model's prompts, the most special first.
PROMPTS: Mapping[str, tuple[str, ...]] = {
    "search_query": ("query", "Retrieval-query", "Retrieval"),
    "search_document": ("document", "passage", "Retrieval-document"),
    "classification": ("classification", "Classification"),
    "clustering": ("clustering", "Clustering"),
}
InputType = Literal["search_query", "search_document", "classification", "clustering"]
EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
TYPES_TEXT = (
    "float (default): numbers. int8: round(127 x). uint8: int8 + 128. ubinary: one bit a value, 1 where x > 0, the "
    "first value in the highest bit of the first byte. binary: ubinary - 128. base64: little-endian float32."
)


class _Call(Body):
    model: Name = Field(description=MODEL, examples=["auto"])
    texts: ListOfTexts = Field(description="The texts.")
    embedding_types: list[EmbeddingType] | None = Field(None, description=TYPES_TEXT)
    truncate: Literal["NONE", "START", "END"] | None = Field(
        None,
        description="NONE refuses texts over the token limit. END (default) and START truncate them; one of the two "
        "must be the end at which the model truncates, END for nearly all.",
    )


class EmbedBody(_Call):
    """A request for embeddings."""

    input_type: InputType = Field(description="Which of the model's prompts goes before the texts.")
    output_dimension: Dimensions | None = Field(None, description=DIMENSIONS)


class OldBody(_Call):
    """A request of the first version of the API."""

    input_type: InputType | None = Field(None, description="Which of the model's prompts goes before the texts.")


class ByType(BaseModel):
    """One list of vectors a type that was asked for."""

    float_: list[list[float]] | None = Field(None, alias="float")
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class EmbedAnswer(BaseModel):
    """The vectors of a request."""

    id: str
    response_type: Literal["embeddings_by_type"]
    embeddings: ByType
    texts: list[str]
    meta: dict[str, Any]


class OldAnswer(BaseModel):
    """The vectors of a request of the first version."""

    id: str
    response_type: Literal["embeddings_floats", "embeddings_by_type"]
    embeddings: list[list[float]] | ByType
    texts: list[str]
    meta: dict[str, Any]


class ErrorBody(BaseModel):
    """A refusal; `code` is ours."""

    message: str
    code: str


def write_error(refusal: RefusalError, _status: int) -> ErrorBody:
    """Return a refusal as Cohere's clients read it."""
    return ErrorBody(message=refusal.message, code=refusal.reason.code)


DIALECT = Dialect("cohere", "Cohere", ErrorBody, write_error)


def router(service: Service) -> APIRouter:
    """Return the door's routes."""
    door = Door(DIALECT, service)
    door.add("POST", "/v2/embed", embed, summary="Embed texts", answer=EmbedAnswer, body=EmbedBody, reasons=EMBEDDING)
    door.add(
        "POST",
        "/v1/embed",
        embed_old,
        summary="Embed texts by the first version of the API",
        answer=OldAnswer,
        body=OldBody,
        reasons=EMBEDDING,
    )
    return door.routes


async def embed(exchange: Exchange) -> Response:
    """Embed texts."""
    body = await exchange.read(EmbedBody)
    return await _answer(exchange, body, body.input_type, body.output_dimension, "2", body.embedding_types or ["float"])


async def embed_old(exchange: Exchange) -> Response:
    """Embed texts by the first version of the API: a plain list of vectors unless types are named."""
    body = await exchange.read(OldBody)
    return await _answer(exchange, body, body.input_type, None, "1", body.embedding_types)


async def _answer(
    exchange: Exchange,
    body: _Call,
    input_type: InputType | None,
    dimensions: int | None,
    api_version: str,
    types: list[EmbeddingType] | None,
) -> Response:
    if body.truncate in ("START", "END"):
        side = "left" if body.truncate == "START" else "right"
        require_truncation_side(exchange, body.model, side, "truncate")
    answer = await exchange.embed(
        body.texts,
        body.model,
        prompt=choose_prompt(exchange, body.model, input_type) if input_type else None,
        dimensions=dimensions,
        truncate=body.truncate != "NONE",
    )
    width = answer.vectors.shape[1]
    if types is None:
        embeddings: object = await dump_rows(answer.vectors, width)
    else:
        embeddings = {name: await dump_rows(ENCODINGS[name](answer.vectors), width) for name in dict.fromkeys(types)}
    return exchange.reply(
        {
            "id": str(uuid4()),
            "response_type": "embeddings_floats" if types is None else "embeddings_by_type",
            "embeddings": embeddings,
            "texts": body.texts,
            "meta": {"api_version": {"version": api_version}, "billed_units": {"input_tokens": sum(answer.tokens)}},
        }
    )


def choose_prompt(exchange: Exchange, model: str, input_type: InputType) -> str | None:
    """Return the name of the model's prompt for a kind of input; None if it has none."""
    prompts = exchange.catalog.find(model).variant.prompts
    return next((name for name in PROMPTS[input_type] if name in prompts), None)
