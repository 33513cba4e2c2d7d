"""One release that answers: its engine, and the requests that run on it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from .engine import Engine
from .probing import GoldenProbe
from .source import UnchangedBundle


class Serving:
    """A release from its first request to its last.

    Args:
        bundle: the release.
        engine: answers from it.
        probe: its golden probe.
    """

    def __init__(self, bundle: UnchangedBundle, engine: Engine, probe: GoldenProbe) -> None:
        self.bundle, self.engine, self.probe = bundle, engine, probe
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def space(self) -> str:
        """Return the vector space of the release's first choice."""
        return self.bundle.contract.variants[self.bundle.order[0]].space_id

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep this release until the block ends."""
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def retire(self) -> None:
        """Wait for the last request, then let go of the release."""
        await self._idle.wait()
        await self.engine.close()

    async def close(self, seconds: float) -> bool:
        """Let go of the release; False if that takes longer than `seconds`."""
        closing = asyncio.create_task(self.engine.close())
        done, _ = await asyncio.wait([closing], timeout=seconds)
        return bool(done)
