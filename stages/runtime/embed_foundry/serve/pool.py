"""The variants in memory: loaded when they are first asked for, self-tested, and let go when memory is needed."""

import asyncio
import hashlib
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
from .refusals import DEADLINE, OVERLOADED, UNAVAILABLE, RefusalError
from .settings import Settings

# A variant that could not be opened, or gave unsound vectors, is tried again after so many seconds.
RETRY_S = 60.0
# So many different texts that fail one after the other, none computed between them, take a variant out of service. One
# text alone never does: a client may repeat it.
FAILURES = 3
# Seconds between two looks at idle variants and memory.
LOOK_S = 1.0


@dataclass(eq=False)
class Loaded:
    """A variant in memory.

    Attributes:
        encoder: it.
        numerics: see `VectorKey.numerics`.
        failures: hashes of the texts that failed since the last text that was computed.
    """

    encoder: Encoder
    numerics: str
    failures: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Slot:
    """The room of one variant in memory, from before it loads until it is unloaded.

    Attributes:
        name: the variant's.
        loaded: the variant; None while it loads.
        users: requests that use it, or wait for it to load.
        used: when one last did, by time.monotonic.
        loading: ends when it is loaded, or failed.
    """

    name: str
    loaded: Loaded | None = None
    users: int = 0
    used: float = field(default_factory=time.monotonic)
    loading: "asyncio.Task[None] | None" = None


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
        threads: of each call of an encoder.
        lanes: calls at once.
        observer: is told what is loaded, unloaded and fails.
    """

    def __init__(
        self, bundle: Bundle, environment: Environment, settings: Settings, threads: int, lanes: int, observer: Observer
    ) -> None:
        self._bundle, self._threads, self._lanes, self._observer = bundle, threads, lanes, observer
        tier = memory.tier_of(environment.memory_mb)
        self._most = settings.max_models or tier.models
        self._idle_s = tier.idle_s if settings.idle_s is None else settings.idle_s
        self._slots: dict[str, Slot] = {}
        self._failed: dict[str, Failed] = {}
        # Requests pass one by one, in the order they came. One that needs room waits inside, so that a stream of
        # requests for other variants cannot keep it out for ever.
        self._turnstile = asyncio.Lock()
        self._freed = asyncio.Event()
        self._looked = 0.0

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the variants in memory."""
        return tuple(slot.name for slot in self._slots.values() if slot.loaded)

    def find(self, name: str) -> Loaded | None:
        """Return a variant if it is in memory."""
        slot = self._slots.get(name)
        return slot.loaded if slot else None

    @property
    def failed(self) -> dict[str, str]:
        """Variants that cannot answer now, and why."""
        now = time.monotonic()
        return {name: failed.reason for name, failed in self._failed.items() if failed.until > now}

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
            if name in self.failed:
                skipped.append(f"{name}: {self._failed[name].reason}")
                continue
            slot = await self._enter(name, deadline)
            try:
                if loaded := await self._wait_for_load(slot, deadline):
                    yield Lease(loaded, tuple(skipped))
                    return
                skipped.append(f"{name}: {self._failed[name].reason}")
            finally:
                slot.users -= 1
                if counts:
                    slot.used = time.monotonic()
                self._freed.set()
        raise RefusalError(
            UNAVAILABLE, f"no variant of this space can answer. {'; '.join(skipped)}", retry_after_s=RETRY_S
        )

    def note_failure(self, loaded: Loaded, text: str, reason: str) -> None:
        """Take note of a text that a variant failed to compute; several in a row take it out of service for a while."""
        loaded.failures.add(hash(text))
        slot = self._slots.get(loaded.encoder.variant.name)
        if slot and slot.loaded is loaded and len(loaded.failures) >= FAILURES:
            self._unload(slot, f"it failed for {FAILURES} texts in a row")
            self._fail(slot, reason)

    def look(self) -> None:
        """Unload what was idle for too long, and what a shortage of memory asks for; at most once a second."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        stale = [slot for slot in self._list_idle() if self._idle_s and now - slot.used > self._idle_s]
        if stale and self._bundle.unchanged:  # else it could not come back
            for slot in stale:
                self._unload(slot, f"it was not used for {now - slot.used:.0f} s")
        idle = self._list_idle()
        pressure = memory.read_pressure() if idle else 0.0
        if pressure > memory.HIGH and len(self._slots) > 1:
            self._observer.on_event(Event("pressure", f"{pressure:.0%} of the memory is in use"))
            keep = 1 if len(idle) == len(self._slots) else 0  # the last one used answers the next request
            leaving = idle[: len(idle) - keep]
            for slot in leaving if pressure > memory.CRITICAL else leaving[:1]:
                self._unload(slot, f"{pressure:.0%} of the memory is in use")

    async def close(self) -> None:
        """Let go of every variant; one that loads is waited for."""
        loading = [slot.loading for slot in self._slots.values() if slot.loading]
        await asyncio.gather(*loading, return_exceptions=True)
        self._slots.clear()
        memory.trim()

    async def _enter(self, name: str, deadline: float) -> Slot:
        """Return a variant's slot, with this request among its users."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())), self._turnstile:
                while name not in self._slots and not self._make_room():
                    self._freed.clear()
                    await self._freed.wait()
                slot = self._slots.setdefault(name, Slot(name))
                slot.users += 1
                return slot
        except TimeoutError:
            raise RefusalError(
                OVERLOADED,
                f"{name} is not in memory, and the {self._most} variants that fit are in use. Ask again later.",
                retry_after_s=1.0,
            ) from None

    async def _wait_for_load(self, slot: Slot, deadline: float) -> Loaded | None:
        """Return the variant of a slot once it is loaded; None if it failed."""
        if slot.loaded:
            return slot.loaded
        slot.loading = slot.loading or asyncio.create_task(self._load(slot))
        try:  # others may wait for the same one, so a client that leaves does not end it
            await asyncio.wait_for(asyncio.shield(slot.loading), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise RefusalError(DEADLINE, f"{slot.name} is still loading. Ask again.", retry_after_s=1.0) from None
        return slot.loaded

    async def _load(self, slot: Slot) -> None:
        started, before = time.monotonic(), memory.read_rss_mb()
        self._observer.on_event(Event("loading", f"loading {slot.name}", slot.name))
        try:
            slot.loaded = await asyncio.to_thread(self._open, slot.name)
        except Exception as error:
            refused = error if isinstance(error, FoundryError) else system_error(error) or error
            self._slots.pop(slot.name, None)
            self._freed.set()
            self._fail(slot, " ".join(str(refused).split()))
            return
        finally:
            slot.loading = None
        grown, seconds = memory.read_rss_mb() - before, time.monotonic() - started
        self._observer.on_event(
            Event("loaded", f"loaded {slot.name} in {seconds:.1f} s, {grown:+.0f} MB of memory", slot.name)
        )

    def _open(self, name: str) -> Loaded:
        encoder, test = self._bundle.open_tested(name, self._threads, self._lanes)
        # The probes alone would not tell apart two tables that differ in the row of some other token.
        source = self._bundle.contract.variants[name].digest
        return Loaded(encoder, hashlib.sha256(f"{source} {test.numerics}".encode()).hexdigest())

    def _fail(self, slot: Slot, reason: str) -> None:
        """Take a variant out of service for a while."""
        self._failed[slot.name] = Failed(reason, time.monotonic() + RETRY_S)
        self._observer.on_event(
            Event("load_failed", f"{slot.name} is out of service for {RETRY_S:g} s: {reason}", slot.name)
        )

    def _list_idle(self) -> list[Slot]:
        """Return the slots that nobody uses, the least recently used first."""
        idle = [slot for slot in self._slots.values() if slot.loaded and not slot.users]
        return sorted(idle, key=lambda slot: slot.used)

    def _make_room(self) -> bool:
        """Return whether one more variant fits, after the least recently used ones were unloaded."""
        for slot in self._list_idle():
            if len(self._slots) < self._most:
                break
            self._unload(slot, f"at most {self._most} variants are kept in memory")
        return len(self._slots) < self._most

    def _unload(self, slot: Slot, reason: str) -> None:
        """Let go of a variant; its memory is free once no request uses it."""
        before = memory.read_rss_mb()
        del self._slots[slot.name]
        if not slot.users:
            slot.loaded = None
        memory.trim()
        self._freed.set()
        freed = before - memory.read_rss_mb()
        self._observer.on_event(Event("unloaded", f"unloaded {slot.name}, {freed:.0f} MB freed: {reason}", slot.name))
