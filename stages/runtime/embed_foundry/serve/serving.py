"""One release that answers: its engine, and the requests that run on it."""

import asyncio
from typing import Any

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
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def space(self) -> str:
        """Return the vector space of the release's first choice."""
        return self.bundle.contract.variants[self.bundle.order[0]].space_id

    def enter(self) -> "asyncio.Task[Any]":
        """Count the running task among those that this release must outlive, and return it."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        self._tasks.add(task)
        self._idle.clear()
        return task

    def leave(self, task: "asyncio.Task[Any]") -> None:
        """End what `enter` began."""
        self._tasks.discard(task)
        if not self._tasks:
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
