"""Fields that doors share: texts, names, dimensions; each says what it takes, in JSON schema and in refusals."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema

from ..refusals import EMPTY_INPUT, MALFORMED, TOKEN_IDS, TOO_LARGE, RefusalError

JsonObject = dict[str, Any]
# Titles in JSON schemas, by which `Door` finds the texts that it limits.
TEXT, TEXTS = "Text", "Texts"
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
