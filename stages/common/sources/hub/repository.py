"""One repository of the hub at one commit, and how messages speak of it."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, Protocol


@dataclass(frozen=True)
class Repository:
    """One repository at one commit.

    Attributes:
        kind: the hub's repository type.
        repo_id: the hub's name of it, such as "mteb/stsbenchmark-sts".
        revision: the commit, 40 hex digits.
    """

    kind: Literal["model", "dataset"]
    repo_id: str
    revision: str

    def __str__(self) -> str:
        """Return repository and commit as messages name them."""
        return f"{self.repo_id}@{self.revision[:12]}"

    def page(self, endpoint: str) -> str:
        """Return the address of its page at a hub."""
        return f"{endpoint}/{self.repo_id}" if self.kind == "model" else f"{endpoint}/{self.kind}s/{self.repo_id}"


class Reason(Enum):
    """Why a hub refuses for good."""

    NO_COMMIT = auto()
    NO_FILE = auto()
    GATED = auto()
    DENIED = auto()
    NO_REPOSITORY = auto()
    OTHER = auto()


@dataclass(frozen=True)
class Refusal:
    """A hub's final answer.

    Attributes:
        reason: what it means.
        code: HTTP status.
        page: address of the repository's page.
        token: "HF_TOKEN" if the request carried a token, else words that say it did not.
    """

    reason: Reason
    code: int
    page: str
    token: str


class Guidance(Protocol):
    """What messages about a repository say, depending on who needs it."""

    @property
    def label(self) -> str:
        """How messages name the repository."""

    @property
    def gated_codes(self) -> frozenset[int]:
        """HTTP statuses that mean a gated repository even if the answer does not say so."""

    def explain(self, refusal: Refusal) -> str:
        """Return the fact and the next step."""
