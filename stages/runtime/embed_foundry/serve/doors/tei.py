"""The API of Hugging Face's text-embeddings-inference: POST /embed, POST /tokenize, GET /info, GET /health.

Its requests name no model; `model` is ours, "auto" by default. As in TEI, a text over the limit is refused unless the
request says `truncate: true`.
"""

import math
from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from ..answers import dump_rows
from ..refusals import (
    BODY_TIMEOUT,
    DEADLINE,
    EMPTY_INPUT,
    INPUT_TOO_LONG,
    INTERNAL,
    INVALID_INPUT,
    MALFORMED,
    OVERLOADED,
    TOKEN_IDS,
    TOO_LARGE,
    TOO_MANY_REQUESTS,
    UNAVAILABLE,
    UNSOUND_VECTOR,
    RefusalError,
)
from ..requests import AUTO, EmbedAnswer
from ..service import Service
from .body import Body
from .dialect import Dialect
from .door import EMBEDDING, READING_TEXTS, Door
from .exchange import Exchange, require_truncation_side, require_unit_length
from .fields import DIMENSIONS, MODEL, Dimensions, Name, NonEmptyTextOrTexts, TextOrTexts

VECTORS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
TOKENS = {
    "type": "array",
    "items": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["id", "text", "special", "start", "stop"],
            "properties": {
                "id": {"type": "integer"},
                "text": {"type": "string"},
                "special": {"type": "boolean"},
                "start": {"type": ["integer", "null"], "description": "First character of the token in the text."},
                "stop": {"type": ["integer", "null"], "description": "The character after its last one."},
            },
        },
    },
}
ERROR_TYPES = {
    EMPTY_INPUT: "Empty",
    INPUT_TOO_LONG: "Validation",
    TOO_LARGE: "Validation",
    INVALID_INPUT: "Validation",
    MALFORMED: "Tokenizer",
    TOKEN_IDS: "Tokenizer",
    OVERLOADED: "Overloaded",
    TOO_MANY_REQUESTS: "Overloaded",
    UNSOUND_VECTOR: "Backend",
    INTERNAL: "Backend",
    UNAVAILABLE: "Unhealthy",
    DEADLINE: "Unhealthy",
    BODY_TIMEOUT: "Validation",
}
# As TEI's router maps its error types; it answers 422 for a body of another shape.
STATUSES = {INPUT_TOO_LONG: 413, MALFORMED: 422, TOKEN_IDS: 422, INVALID_INPUT: 422, UNSOUND_VECTOR: 424, INTERNAL: 424}


class _Call(Body):
    model: Name = Field(AUTO, description=f"Beyond TEI's API. {MODEL}", examples=[AUTO])
    prompt_name: Name | None = Field(None, description="A prompt of the model, such as query; none by default.")


class EmbedBody(_Call):
    """A request for embeddings."""

    inputs: NonEmptyTextOrTexts = Field(description="One text or several, none empty.")
    truncate: bool | None = Field(
        None, description="Whether texts over the token limit are truncated, or refused (default)."
    )
    truncation_direction: Literal["Left", "Right", "left", "right"] | None = Field(
        None, description="Must be the end at which the model truncates: Right for nearly all."
    )
    normalize: bool = Field(True, description="Only true: released graphs give unit vectors.")
    dimensions: Dimensions | None = Field(None, description=DIMENSIONS)


class TokenizeBody(_Call):
    """A request for tokens."""

    inputs: TextOrTexts = Field(description="One text or several.")
    add_special_tokens: bool = Field(True, description="Whether tokens that frame a text are listed, too.")


class ErrorBody(BaseModel):
    """A refusal; `code` is ours."""

    error: str
    error_type: str
    code: str


class Info(BaseModel):
    """What is served."""

    model_id: str
    model_sha: str
    model_dtype: str
    model_type: dict[str, dict[str, str]]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str
    docker_label: str | None


def write_error(refusal: RefusalError, _status: int) -> ErrorBody:
    """Return a refusal as TEI's clients read it."""
    kind = ERROR_TYPES.get(refusal.reason, "Validation")
    return ErrorBody(error=refusal.message, error_type=kind, code=refusal.reason.code)


DIALECT = Dialect("tei", "text-embeddings-inference", ErrorBody, write_error, STATUSES)


def router(service: Service) -> APIRouter:
    """Return the door's routes."""
    door = Door(DIALECT, service)
    door.add("POST", "/embed", embed, summary="Embed texts", answer=VECTORS, body=EmbedBody, reasons=EMBEDDING)
    door.add(
        "POST", "/tokenize", tokenize, summary="List tokens", answer=TOKENS, body=TokenizeBody, reasons=READING_TEXTS
    )
    door.add("GET", "/info", get_info, summary="What is served", answer=Info)
    door.add("GET", "/health", get_health, summary="Whether the service answers", answer=None, waits=False)
    return door.routes


async def embed(exchange: Exchange) -> Response:
    """Embed texts."""
    body = await exchange.read(EmbedBody)
    require_unit_length(body.normalize)
    if body.truncate and body.truncation_direction:
        require_truncation_side(exchange, body.model, body.truncation_direction.lower(), "truncation_direction")
    answer = await exchange.embed(
        body.inputs,
        body.model,
        prompt=body.prompt_name,
        dimensions=body.dimensions,
        truncate=bool(body.truncate),
    )
    rows = await dump_rows(answer.vectors, answer.vectors.shape[1])
    return exchange.reply(rows, compute_headers(answer, sum(map(len, body.inputs))))


def compute_headers(answer: EmbedAnswer, characters: int) -> dict[str, str]:
    """Return the headers by which TEI tells what a request took; times are whole milliseconds, rounded up."""
    timings = answer.timings
    times = {
        "X-Compute-Time": timings.total_s,
        "X-Total-Time": timings.total_s,
        "X-Tokenization-Time": timings.tokenize_s,
        "X-Queue-Time": timings.queue_s,
        "X-Inference-Time": timings.compute_s,
    }
    return {
        "X-Compute-Type": "cpu",
        "X-Compute-Characters": str(characters),
        "X-Compute-Tokens": str(sum(answer.tokens)),
        **{name: str(math.ceil(seconds * 1000)) for name, seconds in times.items()},
    }


async def tokenize(exchange: Exchange) -> Response:
    """List the tokens of texts, before truncation."""
    body = await exchange.read(TokenizeBody)
    catalog = exchange.catalog
    variant = catalog.find(body.model).variant
    prefix = catalog.prompt(variant, body.prompt_name or catalog.resolve(body.model).prompt, "prompt_name")
    tokenizer = catalog.tokenizer(variant)
    texts = [prefix + text for text in body.inputs]
    encodings = tokenizer.encode_batch(texts, add_special_tokens=body.add_special_tokens)
    answer = []
    for text, encoding in zip(texts, encodings, strict=True):
        columns = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
        answer.append(
            [
                {
                    "id": number,
                    "text": token if special else text[start:stop],
                    "special": bool(special),
                    "start": None if special else start,
                    "stop": None if special else stop,
                }
                for number, token, special, (start, stop) in columns
            ]
        )
    return exchange.reply(answer)


async def get_info(exchange: Exchange) -> Response:
    """Say what is served."""
    catalog, settings = exchange.catalog, exchange.service.settings
    variant = catalog.find(AUTO).variant
    repository, _, revision = variant.model.partition("@")
    info = Info(
        model_id=repository,
        model_sha=revision,
        model_dtype=variant.precision,
        model_type={"embedding": {"pooling": "model"}},
        max_concurrent_requests=settings.max_client_requests,
        max_input_length=variant.max_tokens,
        max_batch_tokens=settings.batch_tokens,
        max_batch_requests=None,
        max_client_batch_size=settings.max_texts,
        auto_truncate=False,
        tokenization_workers=1,
        version=version("embed-foundry"),
        sha=catalog.bundle.digest,
        docker_label=None,
    )
    return exchange.reply(info.model_dump())


async def get_health(exchange: Exchange) -> Response:
    """Say whether the service answers, as /readyz does."""
    readiness = exchange.service.read_readiness()
    if not readiness.ready:
        raise RefusalError(UNAVAILABLE, f"not ready: {readiness.reason}. /readyz has more.")
    return Response()
