"""What waits for a lane, and which texts make the next call. Pure: no clock, no thread.

Two rules. *Bytes*: a text shares a call only with texts that cannot change a bit of its vector (`Sharing`).
*Fairness*: start-time fair queueing (Goyal, Vin and Cheng 1996) with a request as a flow and tokens as its cost: a text
is due after the tokens of its own request before it, counted from when the request came. So a single question
does not wait behind the two thousand passages of somebody else's request, and every text's turn comes.
"""

import heapq
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from ..encoders.kinds import KINDS
from ..encoders.variant import Variant

Item = TypeVar("Item")


class Sharing(Enum):
    """Which texts may be computed in one call without changing a byte of each other's vector."""

    ANY = auto()  # a table looks every text up by itself
    EQUAL_LENGTH = auto()  # of as many tokens: no padding
    NONE = auto()


def sharing_of(variant: Variant) -> Sharing:
    """Return the rule of a variant.

    The build measures `batching` against a tolerance; here bytes count. A floating-point graph that may pad ("padded")
    moves by 3e-8 even beside texts of its own length, because the library splits larger products otherwise.
    """
    if variant.kind in KINDS and not KINDS[variant.kind].multiplies:
        return Sharing.ANY
    return Sharing.EQUAL_LENGTH if variant.batching == "equal_length" else Sharing.NONE


@dataclass(eq=False)
class Flow:
    """A request in the queue: how many of its texts wait."""

    waiting: int


@dataclass(eq=False)
class Place(Generic[Item]):
    """A text in the queue.

    Attributes:
        flow: its request.
        due: its turn, in tokens of virtual time.
        number: in the order of arrival, for ties.
        tokens: its length.
        group: places of one group may share a call; None shares with nobody.
        item: what the caller put in.
        taken: whether a call has it.
    """

    flow: Flow
    due: float
    number: int
    tokens: int
    group: Hashable
    item: Item
    taken: bool = False

    def __lt__(self, other: "Place[Item]") -> bool:
        """Order by turn."""
        return (self.due, self.number) < (other.due, other.number)


class WaitingTexts(Generic[Item]):
    """Texts in the order of their turns.

    Args:
        is_alive: whether an item is still wanted; others are dropped when their turn comes.
    """

    def __init__(self, is_alive: Callable[[Item], bool]) -> None:
        self._is_alive = is_alive
        self._heap: list[Place[Item]] = []
        self._groups: dict[Hashable, list[Place[Item]]] = {}  # heaps, too; a place is in both
        self._number = self._flows = 0
        self._virtual = 0.0
        self.tokens = self.texts = 0

    def add(self, items: Sequence[Item], tokens: Sequence[int], groups: Sequence[Hashable]) -> None:
        """Put the texts of one request into the queue.

        Args:
            items: its texts.
            tokens: the length of each.
            groups: what each may share a call with: texts of an equal group; None shares with nobody.
        """
        flow, due = Flow(len(items)), self._virtual
        self._flows += 1
        for item, count, group in zip(items, tokens, groups, strict=True):
            place = Place(flow, due, self._number, count, group, item)
            self._number += 1
            due += count
            heapq.heappush(self._heap, place)
            if group is not None:
                heapq.heappush(self._groups.setdefault(group, []), place)
            self.tokens += count
            self.texts += 1

    def take(self, most_tokens: int, most_texts: int) -> list[Item]:
        """Return the texts of the next call: the one whose turn it is, and those that may share its call.

        Args:
            most_tokens: of the call; a longer text has a call of its own.
            most_texts: of the call.
        """
        while first := self._next(self._heap):
            # Time goes on as if all requests were served at once, each with the same share.
            self._virtual = max(self._virtual, first.due) + first.tokens / self._flows
            call, room = self._remove(first), most_tokens - first.tokens
            group = self._groups.get(first.group, [])
            while call and len(call) < most_texts and (place := self._next(group)) and place.tokens <= room:
                added = self._remove(place)
                call += added
                room -= place.tokens if added else 0
            if not self._next(group):
                self._groups.pop(first.group, None)
            if call:
                return call
        return []

    def _next(self, heap: list[Place[Item]]) -> Place[Item] | None:
        """Return the first place of a heap that no call has taken; those before it are let go."""
        while heap and heap[0].taken:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _remove(self, place: Place[Item]) -> list[Item]:
        """Take a place; return its item, or nothing if it is no longer wanted."""
        place.taken = True
        place.flow.waiting -= 1
        self._flows -= not place.flow.waiting
        self.tokens -= place.tokens
        self.texts -= 1
        return [place.item] if self._is_alive(place.item) else []
