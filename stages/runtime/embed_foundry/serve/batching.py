"""What waits for a lane, and which texts make the next call. Pure: no clock, no thread.

Two rules. *Bytes*: a text shares a call only with texts that cannot change a bit of its vector (`Sharing`).
*Fairness*: start-time fair queueing (Goyal, Vin and Cheng 1996) with a request as a flow and seconds of computing as
its cost: a text is due after the texts of its own request before it, counted from when the request came. So a single
question does not wait behind the two thousand passages of somebody else's request, and every text's turn comes.
"""

import heapq
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
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


@dataclass
class Load:
    """How much waits.

    Attributes:
        texts: how many.
        tokens: of those.
        cost: estimated seconds of computing them.
    """

    texts: int = 0
    tokens: int = 0
    cost: float = 0.0

    def add(self, other: "Load", sign: int = 1) -> None:
        """Add another load, or take it away."""
        self.texts += sign * other.texts
        self.tokens += sign * other.tokens
        self.cost = self.cost + sign * other.cost if self.texts else 0.0  # sums of floats leave a rest


@dataclass(eq=False)
class Flow:
    """A request in the queue.

    Attributes:
        load: its texts that wait.
        left: whether it was taken out, so that its places count no more.
    """

    load: Load = field(default_factory=Load)
    left: bool = False


@dataclass(frozen=True)
class Entry(Generic[Item]):
    """A text that is to be computed.

    Attributes:
        item: what the caller put in.
        tokens: its length.
        cost: estimated seconds of computing it.
        group: texts of an equal group may share a call; None shares with nobody.
    """

    item: Item
    tokens: int
    cost: float
    group: Hashable = None

    @property
    def load(self) -> Load:
        """What it adds to a queue."""
        return Load(1, self.tokens, self.cost)


@dataclass(eq=False)
class Place(Generic[Item]):
    """A text in the queue.

    Attributes:
        entry: the text.
        flow: its request.
        due: its turn, in seconds of virtual time.
        number: in the order of arrival, for ties.
        taken: whether a call has it.
    """

    entry: Entry[Item]
    flow: Flow
    due: float
    number: int
    taken: bool = False

    @property
    def waits(self) -> bool:
        """Whether its turn is still to come."""
        return not (self.taken or self.flow.left)

    def __lt__(self, other: "Place[Item]") -> bool:
        """Order by turn."""
        return (self.due, self.number) < (other.due, other.number)


class WaitingTexts(Generic[Item]):
    """Texts in the order of their turns.

    Attributes:
        load: how much waits.

    Args:
        claim: takes an item for a call, or says that it is not to be computed any more: then it is dropped.
    """

    def __init__(self, claim: Callable[[Item], bool]) -> None:
        self._claim = claim
        self._heap: list[Place[Item]] = []
        self._groups: dict[Hashable, list[Place[Item]]] = {}  # heaps, too; a place is in both
        self._number = self._flows = 0
        self._virtual = 0.0
        self.load = Load()

    def add(self, entries: Sequence[Entry[Item]]) -> Flow:
        """Put the texts of one request into the queue; return what `remove` takes."""
        flow, due = Flow(), self._virtual
        self._flows += bool(entries)
        for entry in entries:
            place = Place(entry, flow, due, self._number)
            self._number += 1
            due += entry.cost
            heapq.heappush(self._heap, place)
            if entry.group is not None:
                heapq.heappush(self._groups.setdefault(entry.group, []), place)
            self.load.add(entry.load)
            flow.load.add(entry.load)
        return flow

    def remove(self, flow: Flow) -> None:
        """Take the texts of a request out that still wait."""
        if flow.load.texts and not flow.left:
            flow.left = True
            self._flows -= 1
            self.load.add(flow.load, -1)
            self._sweep()

    def take(self, most_tokens: int, most_texts: int) -> list[Item]:
        """Return the texts of the next call: the one whose turn it is, and those that may share its call.

        Args:
            most_tokens: of the call; a longer text has a call of its own.
            most_texts: of the call.
        """
        while first := self._next(self._heap):
            flows, group = self._flows, first.entry.group
            call, room = self._pop(first), most_tokens - first.entry.tokens
            if call:  # time goes on as if all requests were served at once, each with the same share
                self._virtual = max(self._virtual, first.due) + first.entry.cost / flows
            others = self._groups.get(group, [])
            while call and len(call) < most_texts and (place := self._next(others)) and place.entry.tokens <= room:
                shared = self._pop(place)
                call += shared
                room -= place.entry.tokens if shared else 0
            if not self._next(others):
                self._groups.pop(group, None)
            if call:
                return call
        return []

    def _next(self, heap: list[Place[Item]]) -> Place[Item] | None:
        """Return the first place of a heap that waits; those before it are let go."""
        while heap and not heap[0].waits:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _pop(self, place: Place[Item]) -> list[Item]:
        """Take a place; return its item, or nothing if it is not to be computed any more."""
        place.taken = True
        self.load.add(place.entry.load, -1)
        place.flow.load.add(place.entry.load, -1)
        self._flows -= not place.flow.load.texts
        return [place.entry.item] if self._claim(place.entry.item) else []

    def _sweep(self) -> None:
        """Let go of places that wait no more, once most do not: clients that come and leave take no memory."""
        if len(self._heap) > 2 * self.load.texts:
            self._heap = [place for place in self._heap if place.waits]
            heapq.heapify(self._heap)
            groups = {group: [place for place in heap if place.waits] for group, heap in self._groups.items()}
            self._groups = {group: heap for group, heap in groups.items() if heap}
            for heap in self._groups.values():
                heapq.heapify(heap)
