"""The variants in memory: loaded when they are first asked for, self-tested, and let go when memory is needed."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ..bundle import Bundle
from ..encoders.encoder import Encoder
from ..environment import Environment
from ..errors import FoundryError
from ..system_errors import system_error
from . import memory
from .observer import Event, Observer
from .refusals import DEADLINE, UNAVAILABLE, RefusalError
from .settings import Settings

# A variant that could not be opened, or gave unsound vectors, is tried again after so many seconds.
RETRY_S = 60.0
# Seconds between two looks at idle variants and memory.
LOOK_S = 1.0


@dataclass(eq=False)
class Loaded:
    """A variant in memory.

    Attributes:
        encoder: it.
        numerics: see `SelfTest.numerics`.
        used: when it last computed, by time.monotonic.
        users: requests that use it now.
    """

    encoder: Encoder
    numerics: str
    used: float = field(default_factory=time.monotonic)
    users: int = 0


@dataclass(frozen=True)
class Failed:
    """A variant that cannot answer until `until`, by time.monotonic."""

    reason: str
    until: float


@dataclass(frozen=True)
class Lease:
    """A variant that a request may use, and why those before it do not answer."""

    loaded: Loaded
    skipped: tuple[str, ...]


class VariantPool:
    """The variants of one release in memory. It belongs to one event loop.

    Args:
        bundle: the release.
        environment: this host.
        settings: `max_models` and `idle_s` override the memory's tier.
        threads: of each encoder.
        observer: is told what is loaded, unloaded and fails.
    """

    def __init__(
        self, bundle: Bundle, environment: Environment, settings: Settings, threads: int, observer: Observer
    ) -> None:
        self._bundle, self._threads, self._observer = bundle, threads, observer
        tier = memory.tier_of(environment.memory_mb)
        self._most = settings.max_models or tier.models
        self._idle_s = tier.idle_s if settings.idle_s is None else settings.idle_s
        self.loaded: dict[str, Loaded] = {}
        self.failed: dict[str, Failed] = {}
        self._loading: dict[str, asyncio.Task[Loaded | None]] = {}
        self._looked = 0.0

    @asynccontextmanager
    async def lease(self, order: Sequence[str], deadline: float, *, counts: bool = True) -> AsyncIterator[Lease]:
        """Yield the first variant of an order that can answer; it stays in memory meanwhile.

        Args:
            order: names of variants of one space.
            deadline: until when a variant may load, by time.monotonic.
            counts: whether the variant is used thereby, and so stays in memory for longer.

        Raises:
            RefusalError: none can answer, or the one that is loading takes too long.
        """
        skipped: list[str] = []
        for name in order:
            loaded = await self._get(name, deadline)
            if loaded:
                loaded.users += 1
                try:
                    yield Lease(loaded, tuple(skipped))
                finally:
                    loaded.users -= 1
                    if counts:
                        loaded.used = time.monotonic()
                return
            skipped.append(f"{name}: {self.failed[name].reason}")
        raise RefusalError(
            UNAVAILABLE, f"no variant of this space can answer. {'; '.join(skipped)}", retry_after_s=RETRY_S
        )

    def fail(self, name: str, reason: str) -> None:
        """Take a variant out of service for a while: its vectors are not sound."""
        self.failed[name] = Failed(reason, time.monotonic() + RETRY_S)
        self.loaded.pop(name, None)
        self._observer.on_event(Event("load_failed", f"{name} is out of service for {RETRY_S:g} s: {reason}", name))

    def look(self) -> None:
        """Unload what was idle for too long, and what a shortage of memory asks for; at most once a second."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        self._make_room(0)  # while all were in use, one too many may have been loaded
        idle = sorted((loaded.used, name) for name, loaded in self.loaded.items() if not loaded.users)
        stale = [(used, name) for used, name in idle if self._idle_s and now - used > self._idle_s]
        if stale and self._bundle.unchanged:  # else it could not come back
            for used, name in stale:
                self._unload(name, f"it was not used for {now - used:.0f} s")
        idle = [(used, name) for used, name in idle if name in self.loaded]
        pressure = memory.read_pressure() if idle else 0.0
        if pressure > memory.HIGH and len(self.loaded) > 1:
            self._observer.on_event(Event("pressure", f"{pressure:.0%} of the memory is in use"))
            keep = 1 if len(idle) == len(self.loaded) else 0  # the last one used answers the next request
            leaving = idle[: len(idle) - keep]
            for _, name in leaving if pressure > memory.CRITICAL else leaving[:1]:
                self._unload(name, f"{pressure:.0%} of the memory is in use")

    async def close(self) -> None:
        """Let go of every variant; one that loads is waited for."""
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        self.loaded.clear()
        memory.trim()

    async def _get(self, name: str, deadline: float) -> Loaded | None:
        """Return a variant, loaded if need be; None if it fails."""
        if loaded := self.loaded.get(name):
            return loaded
        failed = self.failed.get(name)
        if failed and failed.until > time.monotonic():
            return None
        task = self._loading.get(name)
        if not task:
            task = self._loading[name] = asyncio.create_task(self._load(name))
        try:  # others may wait for the same one, so a client that leaves does not end it
            return await asyncio.wait_for(asyncio.shield(task), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise RefusalError(DEADLINE, f"{name} is still loading. Ask again.", retry_after_s=1.0) from None

    async def _load(self, name: str) -> Loaded | None:
        self._make_room(1)
        started, before = time.monotonic(), memory.read_rss_mb()
        self._observer.on_event(Event("loading", f"loading {name}", name))
        try:
            loaded = await asyncio.to_thread(self._open, name)
        except Exception as error:
            refused = error if isinstance(error, FoundryError) else system_error(error) or error
            self.fail(name, " ".join(str(refused).split()))
            return None
        finally:
            del self._loading[name]
        self.failed.pop(name, None)
        self.loaded[name] = loaded
        grown = memory.read_rss_mb() - before
        seconds = time.monotonic() - started
        self._observer.on_event(Event("loaded", f"loaded {name} in {seconds:.1f} s, {grown:+.0f} MB of memory", name))
        return loaded

    def _open(self, name: str) -> Loaded:
        encoder, test = self._bundle.open_tested(name, self._threads)
        return Loaded(encoder, test.numerics)

    def _make_room(self, coming: int) -> None:
        """Unload the least recently used variants that nobody uses until the limit holds with those that come."""
        idle = sorted((loaded.used, name) for name, loaded in self.loaded.items() if not loaded.users)
        for _, name in idle[: max(0, len(self.loaded) + coming - self._most)]:
            self._unload(name, f"at most {self._most} variants are kept in memory")

    def _unload(self, name: str, reason: str) -> None:
        before = memory.read_rss_mb()
        del self.loaded[name]
        memory.trim()
        freed = before - memory.read_rss_mb()
        self._observer.on_event(Event("unloaded", f"unloaded {name}, {freed:.0f} MB freed: {reason}", name))
