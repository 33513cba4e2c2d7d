"""A request's body: read within its limits, parsed strictly, checked against a door's record."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from ..refusals import (
    BODY_TIMEOUT,
    EMPTY_INPUT,
    INVALID_INPUT,
    MALFORMED,
    TOKEN_IDS,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    RefusalError,
)

JsonObject = dict[str, Any]
# Parsing a megabyte takes about 3 ms. Larger bodies are parsed beside the event loop.
LARGE = 1 << 20
# Lists and objects that a body may have: every dialect needs a few, and Python's memory manager takes a second for the
# millions that fit eight megabytes.
MOST_CONTAINERS = 10_000
STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
SEE = "/openapi.json has the fields."
JSON_TYPES: Final = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True)
class Limits:
    """What a request may hold: see `Settings`."""

    body_bytes: int
    texts: int
    characters: int
    seconds: float


class Body(BaseModel):
    """A request as a dialect documents it.

    A field that the dialect does not have is refused: it may be misspelt, or another dialect's, and to ignore what it
    asks for may mean a wrong vector.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


BodyT = TypeVar("BodyT", bound=Body)
# Titles in JSON schemas, by which `Door` finds the texts that it limits.
TEXT, TEXTS = "Text", "Texts"


@dataclass(frozen=True)
class TextRule:
    """What a field of texts takes.

    Attributes:
        single: whether one string stands for a list of one.
        several: whether it may be a list.
        empty: whether a text may be "".
        least: how many texts there must be.
    """

    single: bool = True
    several: bool = True
    empty: bool = True
    least: int = 1

    def schema(self) -> JsonObject:
        """Return the JSON schema of the field, without the limits that `Door` adds."""
        text: JsonObject = {"type": "string", "title": TEXT} | ({} if self.empty else {"minLength": 1})
        texts: JsonObject = {"type": "array", "title": TEXTS, "items": text, "minItems": self.least}
        kinds = [*([text] if self.single else []), *([texts] if self.several else [])]
        return {"anyOf": kinds} if len(kinds) > 1 else kinds[0]

    def read(self, value: object, info: ValidationInfo[Limits]) -> tuple[str, ...]:
        """Return the texts of a field.

        Args:
            value: as JSON has it.
            info: of the field; its context is `Limits`.

        Raises:
            RefusalError: naming the item.
        """
        name, limits = info.field_name or "", info.context
        if limits is None:
            raise TypeError("texts are validated with `Limits` as context")
        if isinstance(value, str) and self.single:
            value = [value]
        elif not isinstance(value, list) or not self.several:
            kinds = [*(["a string"] if self.single else []), *(["a list of strings"] if self.several else [])]
            expected = " or ".join(kinds)
            raise RefusalError(MALFORMED, f"{name} is {JSON_TYPES[type(value)]}; expected {expected}.", name)
        if len(value) < self.least:
            raise RefusalError(EMPTY_INPUT, f"{name} is an empty list; expected at least one text.", name)
        if len(value) > limits.texts:
            raise RefusalError(
                TOO_LARGE, f"{name} has {len(value)} texts; at most {limits.texts} fit a request. Send several.", name
            )
        for position, text in enumerate(value):
            if not isinstance(text, str):
                raise _refuse_item(text, position, name)
            _require_text(text, f"{name}[{position}]", name, limits, self.empty)
        return tuple(value)


def _refuse_item(item: object, position: int, name: str) -> RefusalError:
    """Return why something among the texts is no text; a list of token ids, or of such lists, begins with one."""
    first = item[0] if isinstance(item, list) and item else item
    if position == 0 and type(first) is int:
        return RefusalError(
            TOKEN_IDS,
            f"{name} holds token ids. Ids of another tokenizer would give a wrong vector, and nothing would show it: "
            "send text. LangChain's OpenAIEmbeddings does with check_embedding_ctx_length=False.",
            name,
        )
    return RefusalError(MALFORMED, f"{name}[{position}] is {JSON_TYPES[type(item)]}; expected a string.", name)


def _require_text(text: str, item: str, name: str, limits: Limits, empty: bool) -> None:
    if not text and not empty:
        raise RefusalError(EMPTY_INPUT, f"{item} is empty; expected text. Leave it out.", name)
    if len(text) > limits.characters:
        raise RefusalError(
            TOO_LARGE,
            f"{item} has {len(text)} characters; at most {limits.characters} are read. Split it into passages.",
            name,
        )
    if (surrogate := find_surrogate(text)) is not None:
        raise RefusalError(
            MALFORMED,
            f"{item} holds a lone surrogate at character {surrogate}, which is no character of any text; expected "
            "Unicode. Replace it, or cut texts between characters.",
            name,
        )


def find_surrogate(text: str) -> int | None:
    """Return where a text has half of a UTF-16 pair, which JSON can write, but UTF-8 cannot; None if nowhere."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _read_whole(number: object) -> object:
    """Return 64.0 as 64: JSON does not tell them apart."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _require_unicode(name: str) -> str:
    if find_surrogate(name) is not None:
        raise ValueError("it holds a lone surrogate")
    return name


def _texts(rule: TextRule) -> Any:  # noqa: ANN401
    return PlainValidator(rule.read), WithJsonSchema(rule.schema())


Text = Annotated[tuple[str, ...], *_texts(TextRule(several=False))]
# One text or several.
TextOrTexts = Annotated[tuple[str, ...], *_texts(TextRule())]
# The same, but no text may be empty.
NonEmptyTextOrTexts = Annotated[tuple[str, ...], *_texts(TextRule(empty=False))]
# One text, several or none.
AnyTexts = Annotated[tuple[str, ...], *_texts(TextRule(least=0))]
ListOfTexts = Annotated[tuple[str, ...], *_texts(TextRule(single=False))]
# The name of a model or prompt.
Name = Annotated[str, AfterValidator(_require_unicode), Field(max_length=256)]
# What a variant's Matryoshka dimensions may be; each variant has a limit of its own, which is lower.
Dimensions = Annotated[int, Field(ge=1, le=1 << 20), BeforeValidator(_read_whole)]
MODEL = 'A variant, an alias, the model\'s name or "auto"; ":PROMPT" after it names a prompt: "auto:query".'
DIMENSIONS = "Length of the vectors (Matryoshka, renormalised). All by default."


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
    place = place.removeprefix(".")[:100].encode("ascii", "backslashreplace").decode("ascii")
    problem = {"extra_forbidden": "is unknown here", "missing": "is missing"}.get(first["type"])
    if problem is None:
        problem = "cannot be used: " + first["msg"][:1].lower() + first["msg"][1:]
    reason = MALFORMED if first["type"] in ("extra_forbidden", "missing") or "type" in first["type"] else INVALID_INPUT
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
