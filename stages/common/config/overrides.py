"""Overrides as people type them. A text that Hydra's grammar cannot hold is quoted for it, or the message shows how.

An unquoted value of Hydra's ends at the first `=`, `#`, `~`, bracket, quote or letter outside a-z, and a comma in it
makes a sweep.
"""

import json
import re
import shlex
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from embed_foundry.errors import InputError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

# A value that begins so is written in Hydra's grammar.
_BRACKETS_OR_QUOTES = ("'", '"', "[", "{")
_NO_SWEEP = "compose writes one configuration; `dvc exp run --queue -S …` takes several"


def quote_for_hydra(texts: Sequence[str], groups: Collection[str]) -> list[str]:
    """Return overrides that Hydra parses, given those of a command line; a plain text arrives as it was typed.

    Args:
        texts: such as `target=railway_cpu` or `model.folder=/data/a=b`.
        groups: the names of config groups, whose values are options.

    Raises:
        InputError: one is no override; the message shows how to write it.
    """
    return [_quote_one(text, groups) for text in texts]


def parse(text: str) -> "Override":
    """Return a parsed override.

    Raises:
        HydraException: Hydra's grammar does not allow it.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except ValueError as error:  # a number of 5000 digits
        raise HydraException(str(error)) from None


def quote_value(value: str) -> str:
    """Return a text in Hydra's quotes; `${` in it is no interpolation."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return str(QuotedString(text=escape(value), quote=Quote.double).with_quotes())


def escape(value: str) -> str:
    """Return a text in which `${` is no interpolation."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)


def shell_word(text: str) -> str:
    """Return a text as a shell takes it, on one line."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + json.dumps(text, ensure_ascii=False)[1:-1].replace("'", "\\'") + "'"


def list_hints(texts: Sequence[str], refusal: str) -> list[str]:
    """Return how to write the overrides that a refusal is about, where they lack quotes or brackets.

    Args:
        texts: the overrides as they were typed.
        refusal: what Hydra or the schema says of them.
    """
    hints = []
    for text in texts:
        key, _, value = text.partition("=")
        quoted = shell_word(f"{key}={quote_value(value)}")
        # The schema's path of a value also names the kind of its group: suite.folder.data.
        path = r"\.(?:[\w.]+\.)?".join(map(re.escape, key.lstrip("+").split(".")))
        refused = re.search(rf"^  {path}: Input should be a valid (\w+)", refusal, re.MULTILINE)
        if refused and refused[1] == "string":
            hints.append(f"For a text, write {quoted}.")
        elif refused and refused[1] == "list":
            hints.append(f"For a list, write {shell_word(f'{key}=[{value}]')}.")
        elif "${" in value and "nterpolation" in refusal:
            hints.append(f"For a text with ${{, write {quoted}.")
    return hints


def list_unescaped(texts: Sequence[str]) -> list[str]:
    """Return a note on every value whose backslashes Hydra takes for escapes."""
    notes = []
    for text in texts:
        key, _, value = text.partition("=")
        if "\\" not in value or value.startswith(_BRACKETS_OR_QUOTES) or not (override := _try_parse(text)):
            continue
        parsed = override.value()
        if isinstance(parsed, str) and parsed != value:
            quoted = shell_word(f"{key}={quote_value(value)}")
            notes.append(f"{key.lstrip('+')} is {parsed}: to Hydra, a backslash escapes a sign. To keep it: {quoted}")
    return notes


def _quote_one(text: str, groups: Collection[str]) -> str:
    from hydra.core.override_parser.types import ValueType

    _require_unicode(text)
    key, separator, value = text.partition("=")
    override = _try_parse(text)
    if not separator and not override:
        raise InputError(f"{text}: is no override; expected KEY=VALUE, such as target=railway_cpu.")
    in_grammar = value.startswith(_BRACKETS_OR_QUOTES)
    if override and not override.is_sweep_override():
        return text if in_grammar or value == value.strip() else f"{key}={quote_value(value)}"
    if override and key in groups:
        raise InputError(f"{text}: {_NO_SWEEP}. For a list, write {shell_word(f'{key}=[{value}]')}.")
    if override and (in_grammar or override.value_type != ValueType.SIMPLE_CHOICE_SWEEP):
        raise InputError(f"{text}: {_NO_SWEEP}. For a text, write {shell_word(f'{key}={quote_value(value)}')}.")
    if in_grammar:
        raise InputError(f"{text}: {_explain_grammar(key, value)}")
    if not _try_parse(quoted := f"{key}={quote_value(value)}"):
        raise InputError(
            f"{text}: {key} is no key that Hydra takes; expected letters a-z, digits and _, with dots between the "
            "parts. Write another key into a file of conf/."
        )
    return quoted


def _explain_grammar(key: str, value: str) -> str:
    """Return how to write a list, a mapping or a quoted text that Hydra cannot read."""
    if value.startswith("[") and value.endswith("]"):
        items = [item.strip() for item in value[1:-1].split(",")]
        word = f"{key}=[{', '.join(item if _try_parse(f'key={item}') else quote_value(item) for item in items)}]"
        if _try_parse(word):
            return f"signs, and letters other than a-z, need quotes in a list. Write {shell_word(word)}."
    text, example = shell_word(f"{key}={quote_value(value)}"), shell_word('key=[8, "/data/é"]')
    return (
        "a bracket, brace or quote is not closed, or signs or letters other than a-z stand in them without quotes, as "
        f"they have in {example}. If all of it is one text, write {text}."
    )


def _require_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise InputError(f"{shown}: is not UTF-8, so params.yaml cannot hold it. Rename the file or folder.") from None


def _try_parse(text: str) -> "Override | None":
    from hydra.errors import HydraException

    try:
        return parse(text)
    except HydraException:
        return None
