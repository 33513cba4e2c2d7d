"""An engine on a release, for tests of what it does."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from embed_foundry import Bundle
from embed_foundry.encoders.onnx import OnnxEncoder
from embed_foundry.serve.engine import Engine
from embed_foundry.serve.observer import Event, Observer
from embed_foundry.serve.refusals import RefusalError
from embed_foundry.serve.requests import EmbedAnswer, EmbedRequest
from embed_foundry.serve.settings import Settings

SETTINGS = Settings(threads=1)


class Events(Observer):
    """Keeps the events that it is told of."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def names(self, variant: str) -> list[str]:
        """Return the names of a variant's events, in order."""
        return [event.name for event in self.events if event.variant == variant]


def run(
    release: Path | Bundle,
    use: Callable[[Engine], Awaitable[Any]],
    settings: Settings = SETTINGS,
    cache: Any = None,
    observer: Observer | None = None,
) -> Any:
    """Run a coroutine function with an engine on a release."""

    async def main() -> Any:
        bundle = release if isinstance(release, Bundle) else Bundle.load(release)
        engine = Engine(bundle, settings, cache, observer)
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(main())


async def ask(engine: Engine, *texts: str, model: str = "onnx_int8", **request: Any) -> EmbedAnswer:
    """Return the answer to a request."""
    return await engine.embed(EmbedRequest(texts or ("a",), model, **request))


async def refusal(engine: Engine, *texts: str, **request: Any) -> RefusalError:
    """Return why a request is refused."""
    with pytest.raises(RefusalError) as caught:
        await ask(engine, *texts, **request)
    return caught.value


def watch_calls(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> list[list[str]]:
    """Return a list to which each call of an ONNX graph adds its texts, after so many seconds."""
    calls: list[list[str]] = []
    embed = OnnxEncoder.embed

    def slow(self, rows):
        calls.append([row.text for row in rows])
        time.sleep(seconds)
        return embed(self, rows)

    monkeypatch.setattr(OnnxEncoder, "embed", slow)
    return calls


def flatten(calls: list[list[str]]) -> list[str]:
    """Return the texts of all calls, in order."""
    return [text for call in calls for text in call]


def block_text(monkeypatch: pytest.MonkeyPatch, text: str) -> threading.Event:
    """Have the call of one text wait until the returned event is set."""
    free, embed = threading.Event(), OnnxEncoder.embed

    def blocked(self, rows):
        if any(row.text == text for row in rows):
            assert free.wait(60)
        return embed(self, rows)

    monkeypatch.setattr(OnnxEncoder, "embed", blocked)
    return free
