"""A request's body: read within its limits, parsed strictly, checked against a door's record."""

import asyncio
import json
import re
from collections.abc import Sequence
from typing import TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from ..refusals import (
    BODY_TIMEOUT,
    INVALID_INPUT,
    MALFORMED,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    Reason,
    RefusalError,
)
from .fields import JSON_TYPES, JsonObject, Limits

# Parsing a megabyte takes about 3 ms. Larger bodies are parsed beside the event loop.
LARGE = 1 << 20
# Lists and objects that a body may have: every dialect needs a few, and Python's memory manager takes a second for the
# millions that fit eight megabytes.
MOST_CONTAINERS = 10_000
STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
SEE = "/openapi.json has the fields."


class Body(BaseModel):
    """A request as a dialect documents it.

    A field that the dialect does not have is refused: it may be misspelt, or another dialect's, and to ignore what it
    asks for may mean a wrong vector.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


BodyT = TypeVar("BodyT", bound=Body)


def require_json(scope: Scope) -> None:
    """Refuse a body that says it is something else than JSON; one that says nothing is read."""
    headers = dict(scope["headers"])
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type and content_type != b"application/json" and not content_type.endswith(b"+json"):
        raise RefusalError(
            UNSUPPORTED_MEDIA_TYPE,
            f"the body is {content_type.decode('latin-1')!a:.100}; expected application/json. "
            "Send the header Content-Type: application/json.",
        )
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RefusalError(UNSUPPORTED_MEDIA_TYPE, "the body is compressed; expected plain JSON. Send it as it is.")


async def read_bytes(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """Return the whole body; it is counted while it arrives, so that no more than the limit is ever held.

    Raises:
        RefusalError: too large, or too slow.
        ClientDisconnect: the client left.
    """
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if declared.isdigit() and int(declared[:20]) > limits.body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.seconds):
            return await _collect(receive, limits)
    except TimeoutError:
        raise RefusalError(
            BODY_TIMEOUT, f"the body did not arrive within {limits.seconds:g} s. Send it faster, or in parts."
        ) from None


async def _collect(receive: Receive, limits: Limits) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limits.body_bytes:
            raise _too_large(limits)
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limits: Limits) -> RefusalError:
    return RefusalError(
        TOO_LARGE, f"the body is larger than {limits.body_bytes} bytes, the most that is read. Send fewer texts."
    )


async def parse(body: bytes, record: type[BodyT], limits: Limits) -> BodyT:
    """Return a body as a door's record.

    Raises:
        RefusalError: no JSON, or not what the record says.
    """
    if len(body) > LARGE:
        return await asyncio.to_thread(_parse, body, record, limits)
    return _parse(body, record, limits)


def _parse(body: bytes, record: type[BodyT], limits: Limits) -> BodyT:
    value = parse_json(body)
    if not isinstance(value, dict):
        raise RefusalError(MALFORMED, f"the body is {JSON_TYPES[type(value)]}; expected an object. {SEE}")
    for name in value:
        if name not in record.model_fields:  # pydantic would describe each of 200,000 before the first is told
            raise _refuse_field(name, MALFORMED, "is unknown here")
    try:
        return record.model_validate(value, context=limits)
    except ValidationError as error:
        raise _describe(error) from None


def _describe(error: ValidationError) -> RefusalError:
    """Return the first thing that is wrong, without the client's text."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    loc = first["loc"] or ("the body",)
    # A field that takes one of several types is followed by the name of the type.
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if not str(part).endswith("]"))
    problem = {"extra_forbidden": "is unknown here", "missing": "is missing"}.get(first["type"])
    if problem is None:
        problem = "cannot be used: " + first["msg"][:1].lower() + first["msg"][1:]
    reason = MALFORMED if first["type"] in ("extra_forbidden", "missing") or "type" in first["type"] else INVALID_INPUT
    return _refuse_field(place.removeprefix("."), reason, problem)


def _refuse_field(place: str, reason: Reason, problem: str) -> RefusalError:
    place = place[:100].encode("ascii", "backslashreplace").decode("ascii")
    return RefusalError(reason, f"{place} {problem}. {SEE}", place.partition("[")[0])


def parse_json(body: bytes) -> object:
    """Return what JSON (RFC 8259) says, and refuse what only Python's parser takes: NaN, Infinity, repeated names.

    Raises:
        RefusalError: malformed.
    """
    if _count_containers(body) > MOST_CONTAINERS < _count_containers(STRING.sub(b"", body)):
        raise RefusalError(MALFORMED, f"the body has more than {MOST_CONTAINERS} lists and objects. {SEE}")
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_require_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        problem = f"the body is not UTF-8 (byte {error.start})"
    except json.JSONDecodeError as error:
        problem = f"the body is no JSON ({error.msg} at character {error.pos})"
    except RecursionError:
        problem = "the body is nested too deeply"
    except ValueError:  # an integer of more digits than Python reads
        problem = "the body has a number of too many digits"
    raise RefusalError(MALFORMED, f"{problem}; expected a JSON object in UTF-8. {SEE}")


def _count_containers(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _require_unique(pairs: Sequence[tuple[str, object]]) -> JsonObject:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise RefusalError(MALFORMED, "an object of the body has the same name twice; expected each once.")
    return names


def _refuse_constant(constant: str) -> object:
    raise RefusalError(MALFORMED, f"the body holds {constant}, which is no JSON; expected a number.")
