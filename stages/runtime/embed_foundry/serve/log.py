"""What the service writes on standard error: events always, requests on demand; never a text or a key."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from .observer import Call, Event, Finished, Observer


class EventLog(Observer):
    """Writes each event as one line, and each request if asked to, both in JSON.

    Args:
        requests: whether to write requests, too.
    """

    def __init__(self, *, requests: bool) -> None:
        self._requests = requests
        self._last: dict[tuple[str, str], float] = {}

    def on_event(self, event: Event) -> None:
        """Write an event; the same one at most once a minute."""
        now, key = time.monotonic(), (event.name, event.message)
        if now - self._last.get(key, -60.0) >= 60.0:
            self._last = {known: last for known, last in self._last.items() if now - last < 60.0} | {key: now}
            _write({"event": event.name, "message": event.message, "variant": event.variant})

    def on_finished(self, finished: Finished) -> None:
        """Write a request."""
        if self._requests:
            values = asdict(finished)
            rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
            _write({"request": rounded.pop("door"), **rounded})


class Observers(Observer):
    """Passes everything on to several observers.

    Args:
        observers: these.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def on_call(self, call: Call) -> None:
        """Pass on a call."""
        for observer in self._observers:
            observer.on_call(call)

    def on_event(self, event: Event) -> None:
        """Pass on an event."""
        for observer in self._observers:
            observer.on_event(event)

    def on_finished(self, finished: Finished) -> None:
        """Pass on a finished request."""
        for observer in self._observers:
            observer.on_finished(finished)

    def on_queue(self, texts: int, tokens: int) -> None:
        """Pass on what waits."""
        for observer in self._observers:
            observer.on_queue(texts, tokens)


def _write(values: dict[str, object]) -> None:
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **values}
    sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stderr.flush()
