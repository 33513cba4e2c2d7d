"""What the service reports of itself: calls, events, requests. Metrics, traces and the event log listen here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """One call of a model.

    Attributes:
        variant: which one.
        texts: how many texts shared the call.
        tokens: of all of them, without padding.
        queue_s: how long the oldest of them waited, in seconds.
        compute_s: how long the call took, in seconds.
    """

    variant: str
    texts: int
    tokens: int
    queue_s: float
    compute_s: float


@dataclass(frozen=True)
class Event:
    """Something that an operator may want to know.

    Attributes:
        name: "loaded", "unloaded", "load_failed", "pressure", "fallback", "swapped", "swap_refused", ….
        message: one sentence; never with a client's text.
        variant: which variant it is about; "" if about none.
    """

    name: str
    message: str
    variant: str = ""


@dataclass(frozen=True)
class Finished:
    """One request that was answered or refused.

    Attributes:
        door: "openai", "ollama", "tei", "cohere", "akidb".
        status: the HTTP status.
        reason: the refusal's code; "" for an answer.
        seconds: from its first byte to its answer.
        texts: how many texts it had.
        tokens: of all of them.
        cached: how many texts were answered from the cache.
        variant: which one answered; "" for a refusal.
        queue_s: longest wait of one of its texts, in seconds.
        compute_s: time of the calls that its texts had a part in, in seconds.
    """

    door: str
    status: int
    reason: str
    seconds: float
    texts: int = 0
    tokens: int = 0
    cached: int = 0
    variant: str = ""
    queue_s: float = 0.0
    compute_s: float = 0.0


class Observer:
    """Listens to nothing; a subclass overrides what it wants to know. Methods return at once and never raise."""

    def on_call(self, call: Call) -> None:
        """Take note of a call of a model."""

    def on_event(self, event: Event) -> None:
        """Take note of an event."""

    def on_finished(self, finished: Finished) -> None:
        """Take note of a finished request."""

    def on_queue(self, texts: int, tokens: int) -> None:
        """Take note of how much waits now."""
