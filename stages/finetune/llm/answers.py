"""The one strict parser of a model's reply: JSON after whatever it thought aloud, or a list and nothing else."""

import json
import re
from collections.abc import Callable
from typing import TypeVar

from stages.common.sources.rows import find_text_fault, read_pairs

# What a model writes around its thoughts. A chat template may have written the first mark, so the last one counts.
_THOUGHTS = r"think|thinking|thought|thoughts|reasoning|reflection|seed:think"
_OPENING = re.compile(rf"<(?:{_THOUGHTS})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>analysis", re.I)
_CLOSING = re.compile(
    rf"</(?:{_THOUGHTS})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>", re.I
)
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.S)
_LIST_MARK = re.compile(r"\s*(?:\d+[.)]|[-*•])\s+(?=\S)")
_JSON_START = re.compile(r"[{\[]")
# What begins like this is meant as JSON; if it is broken, no part of it is an answer.
_JSON_INTENT = re.compile(r"[{\[]\s*\"")
# A longer answer is none: ten questions have a tenth of it.
LONGEST = 20_000
# Why a reply ended, if it is not complete.
_INCOMPLETE = {
    "length": "is cut off at the token limit",
    "content_filter": "is cut off by a content filter",
    "tool_calls": "calls a tool",
    "function_call": "calls a function",
}


Answer = TypeVar("Answer")


class RefusedAnswerError(ValueError):
    """A reply that is no answer; the text says why, as a verb and what follows."""


class NotCompletionError(ValueError):
    """What the endpoint sent is no chat completion; the text is what it says instead, if it says so."""


def read_content(completion: object) -> str:
    """Return the text of a chat completion, without reasoning that has a field of its own.

    Raises:
        NotCompletionError: it is another JSON value.
        RefusedAnswerError: it has no text, or an incomplete one.
    """
    if not isinstance(completion, dict) or not isinstance(completion.get("choices"), list):
        error = completion.get("error") if isinstance(completion, dict) else None
        raise NotCompletionError(json.dumps(error) if error else "")
    choice = completion["choices"][0] if completion["choices"] else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise RefusedAnswerError("has no message")
    if message.get("refusal"):
        raise RefusedAnswerError(f"is a refusal ({message['refusal']!r:.80})")
    if message.get("tool_calls") or message.get("function_call"):
        raise RefusedAnswerError(_INCOMPLETE["tool_calls"])
    if reason := _INCOMPLETE.get(str(choice.get("finish_reason"))):
        raise RefusedAnswerError(reason)
    content = message.get("content")
    if isinstance(content, list):  # parts, of which those of another type are thoughts
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str) or not content.strip():
        raise RefusedAnswerError("has no content")
    return content


def parse_questions(content: str) -> list[str]:
    """Return the questions of a reply, at least one, each on one line.

    Raises:
        RefusedAnswerError: it is neither {"questions": [text, …]} or [text, …] after the thoughts, nor a list of lines
            and nothing else.
    """
    questions = _find_answer(content, _match_questions) or _read_list(_strip_thoughts(content))
    if not questions:
        raise RefusedAnswerError("has no JSON object with a field `questions`")
    lines = [" ".join(question.split()) for question in questions]
    for line in lines:
        if fault := find_text_fault(line):
            raise RefusedAnswerError(f"has a question that {fault}")
    return lines


def parse_mark(content: str) -> int:
    """Return the mark of a reply, 1 to 5.

    Raises:
        RefusedAnswerError: it has no {"mark": 1 to 5} after the thoughts.
    """
    mark = _find_answer(content, _match_mark)
    if mark is None:
        raise RefusedAnswerError("has no JSON object with a field `mark` of 1 to 5")
    return mark


def _match_questions(value: object) -> list[str] | None:
    questions = value.get("questions") if isinstance(value, dict) else value
    is_texts = isinstance(questions, list) and questions and all(isinstance(text, str) for text in questions)
    return questions if is_texts else None  # type: ignore[return-value]  # checked above


def _match_mark(value: object) -> int | None:
    mark = value.get("mark") if isinstance(value, dict) else None
    is_mark = isinstance(mark, int | float) and not isinstance(mark, bool) and mark in range(1, 6)
    return int(mark) if is_mark else None  # type: ignore[arg-type]  # checked above


def _find_answer(content: str, match: Callable[[object], Answer | None]) -> Answer | None:
    """Return the one answer among the JSON values of a reply; None if there is none.

    Raises:
        RefusedAnswerError: the thoughts have no end, JSON is broken, or there are different answers.
    """
    try:  # with structured output this is all
        values = [_DECODER.decode(content.strip())] if len(content) <= LONGEST else []
    except (ValueError, RecursionError):
        values = []
    answers = [match(value) for value in values] or [match(value) for value in _find_json(_strip_thoughts(content))]
    distinct = [answer for answer in answers if answer is not None]
    if any(answer != distinct[0] for answer in distinct):
        raise RefusedAnswerError("has several answers")
    return distinct[0] if distinct else None


def _strip_thoughts(content: str) -> str:
    """Return what follows the thoughts.

    Raises:
        RefusedAnswerError: they have no end, or too much follows.
    """
    answer = content[max((mark.end() for mark in _CLOSING.finditer(content)), default=0) :]
    if _OPENING.search(answer):
        raise RefusedAnswerError("is still thinking when it ends")
    if len(answer) > LONGEST:
        raise RefusedAnswerError(f"has {len(answer)} characters, expected at most {LONGEST}")
    return answer.strip()


def _find_json(text: str) -> list[object]:
    """Return the outermost JSON objects and arrays in a text."""
    values, position = [], 0
    while start := _JSON_START.search(text, position):
        try:
            value, position = _DECODER.raw_decode(text, start.start())
        except RecursionError:  # tried at every bracket, it would take seconds
            raise RefusedAnswerError("has brackets too deep in brackets") from None
        except ValueError:
            if _JSON_INTENT.match(text, start.start()):
                raise RefusedAnswerError("has broken JSON") from None
            position = start.end()
        else:
            values.append(value)
    return values


def _read_list(text: str) -> list[str]:
    """Return the items of a list, if the whole text is one; else nothing."""
    fence = _FENCE.fullmatch(text)
    lines = [line for line in (fence[1] if fence else text).splitlines() if line.strip()]
    return [_LIST_MARK.sub("", line, count=1) for line in lines] if all(map(_LIST_MARK.match, lines)) else []


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=read_pairs, parse_constant=_refuse_constant)
