"""What /readyz says, and what it rests on: when the lanes last proved that they compute."""

import time
from dataclasses import dataclass

from .observer import Call, Event, Finished, Observer

# A probe runs when nothing proved the lanes for so long; a service that proved nothing for FRESH_S is not ready.
PROBE_EVERY_S, FRESH_S = 5.0, 15.0
# A lane that computes nothing for so long although something waits for it stands still, and only a restart helps. The
# largest batch takes well under a minute on the slowest host that serves.
STANDSTILL_S = 120.0


@dataclass(frozen=True)
class Readiness:
    """What /readyz says.

    Attributes:
        ready: whether requests are answered.
        reason: why not; "" if they are.
        notes: what an operator should know although requests are answered: a release that was refused, a store that is
            gone, variants that were skipped.
        release: digest of the release that answers; "" without one.
        space: its first choice's vector space; "" without a release.
        loaded: variants in memory.
        failed: variants that could not be opened, and why.
        fallback: why the first choice does not answer; empty if it does.
        running: requests that run now.
        probe_age_s: seconds since a request or probe was last computed; None if none was.
    """

    ready: bool
    reason: str
    notes: tuple[str, ...] = ()
    release: str = ""
    space: str = ""
    loaded: tuple[str, ...] = ()
    failed: dict[str, str] | None = None
    fallback: tuple[str, ...] = ()
    running: int = 0
    probe_age_s: float | None = None


class Proofs(Observer):
    """Notes when the lanes computed something, and passes on all that it is told.

    Args:
        listener: is told everything.
    """

    def __init__(self, listener: Observer) -> None:
        self._listener = listener
        self.computed: float | None = None  # time.monotonic() of the last call
        self.waiting_since: float | None = None  # of the oldest request since then

    def expect(self) -> None:
        """Take note that something waits for the lanes."""
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()

    def prove(self) -> None:
        """Take note that the lanes computed something."""
        self.computed, self.waiting_since = time.monotonic(), None

    @property
    def age_s(self) -> float | None:
        """Return the seconds since the lanes last computed something."""
        return None if self.computed is None else time.monotonic() - self.computed

    @property
    def standstill_s(self) -> float:
        """Return for how many seconds something has waited while nothing was computed."""
        return 0.0 if self.waiting_since is None else time.monotonic() - self.waiting_since

    def on_call(self, call: Call) -> None:
        """See `Observer`."""
        self.prove()
        self._listener.on_call(call)

    def on_event(self, event: Event) -> None:
        """See `Observer`."""
        self._listener.on_event(event)

    def on_finished(self, finished: Finished) -> None:
        """See `Observer`."""
        self._listener.on_finished(finished)

    def on_queue(self, texts: int, tokens: int) -> None:
        """See `Observer`."""
        self._listener.on_queue(texts, tokens)
