"""Texts on their way through an encoder: as strings, as tokens, as vectors that are not normalised yet."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .vectors import Vectors


class UnusableRowError(Exception):
    """A row that the model has no vector for.

    Args:
        row: its position among the rows of the call.
        reason: what is wrong, after "text 3 ".
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason


@dataclass(frozen=True)
class Rows:
    """Texts as an encoder takes them.

    Attributes:
        texts: the texts, the prompt in front.
        prompt: that prompt; empty if there is none.
    """

    texts: list[str]
    prompt: str

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, positions: Sequence[int]) -> "Rows":
        """Return some of the rows, in the order of their positions."""
        return Rows([self.texts[position] for position in positions], self.prompt)


@dataclass(frozen=True)
class Tokens:
    """One text as its model is given it.

    Attributes:
        text: the text, its prompt in front.
        prompt: that prompt; empty if there is none.
        ids: its token ids, special tokens included, truncated.
        count: how many there were before truncation.
    """

    text: str
    prompt: str
    ids: list[int]
    count: int

    @property
    def truncated(self) -> bool:
        """Whether the text lost tokens."""
        return self.count > len(self.ids)


@dataclass(frozen=True)
class Embedding:
    """What an encoder computed of some rows.

    Attributes:
        vectors: [n, dimensions], not normalised.
        truncated: positions of the rows that lost tokens.
        unknown: positions of the rows of which no token is known.
    """

    vectors: Vectors
    truncated: list[int]
    unknown: Sequence[int] = ()


def require_text(text: object, position: int) -> str:
    """Return the text if it is a string that UTF-8 can encode."""
    if not isinstance(text, str):
        raise InputError(f"text {position} is a {type(text).__name__}; expected a string.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"text {position} holds a lone surrogate; expected valid Unicode.") from None
    return text
