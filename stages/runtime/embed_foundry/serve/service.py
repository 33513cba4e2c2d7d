"""The service: the release that answers now, how another one takes its place, and what doors and probes ask of it."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..errors import FoundryError
from ..system_errors import system_error
from . import swap
from .cache import VectorCache
from .engine import Engine
from .observer import Event, Observer
from .readiness import FRESH_S, PROBE_EVERY_S, STANDSTILL_S, Proofs, Readiness
from .refusals import DEADLINE, UNAVAILABLE, RefusalError
from .requests import EmbedAnswer, EmbedRequest
from .serving import Serving
from .settings import Settings
from .source import UnchangedBundle, Watch

# Longest time between two looks at the folder that is served, in seconds: a look takes a millisecond.
LOOK_S = 1.0
# Seconds that closing a release may take at the end of the process; a call that takes longer is left to the system.
CLOSE_S = 2.0


class Service:
    """Answers requests from the current release. It belongs to one event loop.

    Args:
        watch: finds releases.
        settings: see `Settings`.
        observer: is told of every request and event.
        cache: vectors by content, for every release; None keeps none.
    """

    def __init__(
        self,
        watch: Watch,
        settings: Settings,
        observer: Observer | None = None,
        cache: VectorCache | None = None,
    ) -> None:
        self.settings, self.observer = settings, Proofs(observer or Observer())
        self._watch, self._cache = watch, cache
        self._serving: Serving | None = None
        self._open = asyncio.Event()  # requests pass; else they wait: for the first release, or for a swap with a pause
        self._loading = True  # the first look is not done
        self._draining = self._ended = False
        self._requests: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._fault = ""  # why the newest release does not answer
        self._probe_fault = ""
        self._fallback: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def engine(self) -> Engine:
        """Return the release that answers now.

        Raises:
            RefusalError: there is none.
        """
        if not self._serving:
            raise self._refuse_without_release()
        return self._serving.engine

    async def start(self, bundle: UnchangedBundle | None = None) -> None:
        """Begin to look for releases and to probe.

        Args:
            bundle: the first release, already verified; None if there is none yet.
        """
        self._tasks = [asyncio.create_task(self._follow(bundle)), asyncio.create_task(self._probe())]

    async def embed(self, request: EmbedRequest) -> EmbedAnswer:
        """Return the vectors of a request: all by the release that was the current one when the request came.

        Raises:
            RefusalError: with its reason.
        """
        if self._draining:
            raise RefusalError(UNAVAILABLE, "this process is ending. Ask again: another one answers.", retry_after_s=1)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        self._requests.add(task)
        try:
            serving, request = await self._admit(request)
            self.observer.expect()
            with serving.running():
                answer = await serving.engine.embed(request)
        except asyncio.CancelledError:
            if self._ended and task.uncancel() == 0:
                raise RefusalError(
                    UNAVAILABLE, "this process ended before the answer. Ask again.", retry_after_s=1
                ) from None
            raise
        except RefusalError as refusal:
            if refusal.reason is not DEADLINE and len(self._requests) == 1:  # nothing waits for a lane
                self.observer.waiting_since = None
            raise
        finally:
            self._requests.discard(task)
            if not self._requests:
                self._idle.set()
        if answer.cached < len(request.texts):
            self.observer.prove()
            self._probe_fault = ""
        self._fallback = answer.skipped if request.model == "auto" else self._fallback
        return answer

    async def drain(self, seconds: float) -> None:
        """Refuse what comes from now on, and wait for what runs; after `seconds`, refuse the rest too."""
        self._draining = True
        deadline = time.monotonic() + seconds
        while self._requests and (left := deadline - time.monotonic()) > 0:
            self._idle.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), left)
        self._ended = True
        for task in self._requests:
            task.cancel()

    async def close(self) -> bool:
        """Let go of the release; False if a call of a model still runs after `CLOSE_S`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._serving:
            return True
        return await self._serving.close(CLOSE_S)

    def read_readiness(self) -> Readiness:
        """Return whether requests are answered now, and what an operator should know."""
        serving, age_s = self._serving, self.observer.age_s
        notes = tuple(filter(None, (self._fault, self._watch.read_fault())))
        if not serving:
            reason = "loading the first release" if self._loading else "no release yet"
            return Readiness(False, ": ".join([reason, *notes[:1]]), notes)
        loaded = serving.engine.loaded
        reason = ""
        if self._draining:
            reason = "ending"
        elif self._probe_fault:
            reason = self._probe_fault
        elif loaded and (age_s is None or age_s > FRESH_S):
            reason = f"nothing was computed for {age_s or 0:.0f} s, though a probe asks every {PROBE_EVERY_S:g} s"
        return Readiness(
            ready=not reason,
            reason=reason,
            notes=notes,
            release=serving.bundle.digest,
            space=serving.space,
            loaded=loaded,
            failed=serving.engine.failed,
            fallback=self._fallback,
            running=len(self._requests),
            probe_age_s=age_s,
        )

    def find_standstill(self) -> str:
        """Return why this process no longer works and must be started again; "" while it does."""
        waited = self.observer.standstill_s
        if waited < STANDSTILL_S:
            return ""
        return f"requests have waited for {waited:.0f} s and none was computed; restart this process"

    async def _admit(self, request: EmbedRequest) -> tuple[Serving, EmbedRequest]:
        """Return the release that answers a request, and the request with what is left of its deadline."""
        limit = self.settings.deadline_s if request.deadline_s is None else request.deadline_s
        began = time.monotonic()
        await self.wait_for_release(limit)
        if not self._serving:
            raise self._refuse_without_release()
        return self._serving, replace(request, deadline_s=limit - (time.monotonic() - began))

    async def wait_for_release(self, seconds: float) -> None:
        """Wait while the first release opens, or one takes another's place in a pause.

        Raises:
            RefusalError: it takes longer.
        """
        if self._open.is_set():
            return
        try:
            await asyncio.wait_for(self._open.wait(), seconds)
        except TimeoutError:
            raise RefusalError(
                DEADLINE, f"no release was ready within {seconds:g} s. Ask again.", retry_after_s=1
            ) from None

    def _refuse_without_release(self) -> RefusalError:
        reason = self._fault or self._watch.read_fault() or "none has arrived yet"
        return RefusalError(UNAVAILABLE, f"this service has no release: {reason}", retry_after_s=self.settings.poll_s)

    async def _follow(self, bundle: UnchangedBundle | None) -> None:
        """Take every release that comes, until the process ends."""
        wait_s = look_s = min(LOOK_S, self.settings.poll_s)
        while True:
            fault = await self._try(self._take, bundle)
            bundle = None
            if fault and not self._serving and await asyncio.to_thread(self._watch.has_changed):
                continue  # it was replaced while it was opened: take what is there now
            if fault and not self._serving and (proven := await asyncio.to_thread(self._watch.load_proven)):
                await self._try(self._take, proven)
            self._fault = fault if fault else self._fault
            self._loading = False
            self._open.set()
            if self._serving:
                wait_s = look_s
            elif fault:  # no release answers; what failed may pass, such as a lack of memory
                wait_s = min(2 * wait_s, max(60.0, look_s))
                self._watch.forget()
            await asyncio.sleep(wait_s)

    async def _try(
        self, step: Callable[[UnchangedBundle | None], Coroutine[None, None, None]], bundle: UnchangedBundle | None
    ) -> str:
        """Run a step that may fail, and return why it did; nothing that it raises ends the service."""
        try:
            await step(bundle)
        except RefusalError as refusal:
            fault = refusal.message
        except FoundryError as error:
            fault = str(error)
        except Exception as error:
            fault = str(system_error(error) or f"{type(error).__name__}: {error}")
        else:
            return ""
        if fault != self._fault:
            self.observer.on_event(Event("swap_refused" if self._serving else "load_failed", fault))
        return fault

    async def _take(self, bundle: UnchangedBundle | None) -> None:
        """Make a release the current one; without one, look for another than the current."""
        new = bundle or await asyncio.to_thread(self._watch.look)
        if not new:
            return
        old = self._serving
        make = lambda release: Engine(release, self.settings, self._cache, self.observer)  # noqa: E731
        plan = swap.make_plan(old, new, self.settings)
        if plan.pauses and old:
            self._serving = await self._take_with_pause(old, new, plan, make)
        else:
            self._serving = await swap.open_release(new, plan.variants, make, strict=old is not None)
        self._fault = ""
        self.observer.prove()
        self._watch.mark_proven(new)
        self.observer.on_event(Event("swapped" if old else "loaded_release", swap.describe(old, self._serving, plan)))
        if old and not plan.pauses:
            await old.retire()

    async def _take_with_pause(
        self, old: Serving, new: UnchangedBundle, plan: swap.Plan, make: Callable[[UnchangedBundle], Engine]
    ) -> Serving:
        """Close the current release before another one is opened, for want of memory; requests wait meanwhile."""
        self._open.clear()
        try:
            await old.retire()
            self._serving = None
            try:
                return await swap.open_release(new, plan.variants, make, strict=True)
            except Exception:
                self._serving = await swap.open_release(old.bundle, (), make, strict=False)
                raise
        finally:
            self._open.set()

    async def _probe(self) -> None:
        """Have the golden probe computed whenever traffic did not prove the lanes."""
        while True:
            await asyncio.sleep(PROBE_EVERY_S / 5)
            age_s = self.observer.age_s
            serving = self._serving
            if not serving or self._draining or not self._open.is_set():
                continue
            serving.engine.unload_idle()  # without requests, nothing else would
            if not serving.engine.loaded:
                continue
            if age_s is not None and age_s < PROBE_EVERY_S:
                continue
            try:
                request = serving.probe.request(serving.engine.loaded[0], FRESH_S)
                serving.probe.check(await self.embed(request))
            except RefusalError as refusal:
                # A queue that is full is no fault; requests that are answered prove the lanes.
                self._probe_fault = refusal.message if refusal.reason.status >= 500 else ""
            except FoundryError as error:
                self._probe_fault = str(error)
