"""Lanes: threads that compute the calls of all variants, one queue for the process."""

import threading
import time
from collections.abc import Hashable, Sequence

import numpy as np

from ..encoders.rows import UnusableRowError
from ..encoders.vectors import Vectors
from ..system_errors import system_error
from .batching import Entry, Flow, Load, Sharing, WaitingTexts, sharing_of
from .jobs import Batch, Job, Jobs, Turn
from .observer import Call, Observer
from .refusals import INTERNAL, INVALID_INPUT, OVERLOADED, UNAVAILABLE, UNSOUND_VECTOR, Reason, RefusalError

# Texts of one call, at most: larger ones are no faster on a CPU, and keep a lane from the next request.
CALL_TEXTS = 32
# Weight of the newest call in the moving speed.
SMOOTHING = 0.1
# Seconds a token, until a variant's first call was measured: a small model on one CPU.
UNMEASURED_S = 1e-4


class Lanes:
    """Threads that take the next call from the queue and compute it.

    Args:
        count: how many.
        most_tokens: of one call; a longer text has a call of its own.
        most_waiting: tokens that may wait; more are refused.
        observer: is told of every call.
    """

    def __init__(self, count: int, most_tokens: int, most_waiting: int, observer: Observer) -> None:
        self._count, self._most_tokens, self._most_waiting = count, most_tokens, most_waiting
        self._observer = observer
        self._waiting: WaitingTexts[Turn] = WaitingTexts(Turn.claim)
        self._jobs = Jobs()
        self._changed = threading.Condition()  # also the lock of all that is above and below
        self._closed = False
        self._batches = 0  # that wait or are computed
        self._speeds: dict[str, float] = {}  # variant -> tokens a second of all lanes together, a moving figure
        self._threads = [threading.Thread(target=self._run, name=f"lane-{lane}", daemon=True) for lane in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def load(self) -> Load:
        """What waits for a lane."""
        with self._changed:
            return Load(self._waiting.load.texts, self._waiting.load.tokens, self._waiting.load.cost)

    def submit(self, batch: Batch) -> None:
        """Queue the texts of a request; those that another request already asked for are computed once.

        Raises:
            RefusalError: overloaded, unavailable.
        """
        with self._changed:
            if self._closed:
                raise RefusalError(UNAVAILABLE, "this process is ending. Ask again.", retry_after_s=1)
            jobs = self._jobs.find(batch)
            waiting = [job for job in dict.fromkeys(jobs) if not job.started]
            entries = [self._make_entry(job, batch) for job in waiting]
            self._require_room(entries, batch)
            self._jobs.ask(batch, jobs)
            self._batches += 1
            flow = self._waiting.add(entries)
            # Answered, failed or cancelled: the client left, or the deadline passed.
            batch.future.add_done_callback(lambda _: self._leave(batch, flow, jobs))
            self._changed.notify(len(entries))
        self._report_queue()

    def close(self) -> None:
        """Let running calls end; whoever waits is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _make_entry(self, job: Job, batch: Batch) -> Entry[Turn]:
        tokens = len(job.row.ids)
        speed = self._speeds.get(job.encoder.variant.name)
        return Entry(Turn(job, batch), tokens, tokens / speed if speed else UNMEASURED_S * tokens, _group(job))

    def _require_room(self, entries: Sequence[Entry[Turn]], batch: Batch) -> None:
        """Refuse a request that the queue has no room for, or that would outlast its deadline.

        With fair queueing a request waits for at most as many seconds of each other request as it needs itself.
        """
        waiting, tokens = self._waiting.load, sum(entry.tokens for entry in entries)
        if not waiting.texts:
            return
        if waiting.tokens + tokens > self._most_waiting:
            raise RefusalError(
                OVERLOADED,
                f"{waiting.tokens} tokens wait, and {tokens} more would be over this service's limit of "
                f"{self._most_waiting}. Ask again later, or send fewer texts.",
                retry_after_s=max(1.0, waiting.cost),
            )
        seconds, cost = batch.deadline - time.monotonic(), sum(entry.cost for entry in entries)
        needed = cost + min(waiting.cost, cost * self._batches)
        if needed > seconds and batch.encoder.variant.name in self._speeds:
            raise RefusalError(
                OVERLOADED,
                f"{waiting.tokens} tokens wait; an answer would take about {needed:.1f} s, over the deadline of "
                f"{seconds:.1f} s. Ask again later, or send fewer texts.",
                retry_after_s=max(1.0, needed - seconds),
            )

    def _leave(self, batch: Batch, flow: Flow, jobs: Sequence[Job]) -> None:
        """Forget a request that ended; its texts that nobody else asks for leave the queue."""
        with self._changed:
            self._batches -= 1
            self._waiting.remove(flow)
            self._jobs.leave(batch, jobs)
        self._report_queue()

    def _run(self) -> None:
        while self._serve():
            pass  # between two calls no frame keeps a variant in memory

    def _serve(self) -> bool:
        """Compute the next call; False when the lanes are closed."""
        call = self._take()
        try:
            if call:
                self._compute(call)
        except Exception as error:  # a lane that ended would leave its requests waiting
            for job in call:
                self._fail(job, INTERNAL, f"a fault of this service: {type(error).__name__}.")
        return bool(call)

    def _take(self) -> list[Job]:
        """Wait for the next call; nothing when the lanes are closed."""
        with self._changed:
            while not self._closed:
                if call := self._waiting.take(self._most_tokens, CALL_TEXTS):
                    return [turn.job for turn in call]
                self._changed.wait()
            left = [turn.job for call in iter(lambda: self._waiting.take(1, 1), []) for turn in call]
        for job in left:
            self._fail(job, UNAVAILABLE, "this process is ending. Ask again.")
        return []

    def _compute(self, call: Sequence[Job]) -> None:
        started = time.monotonic()
        encoder, rows = call[0].encoder, [job.row for job in call]
        try:
            vectors = encoder.embed(rows)
            _require_sound(vectors, (len(rows), encoder.variant.dimensions))
        except Exception as error:
            self._retry_or_fail(call, error)
            return
        seconds, tokens = time.monotonic() - started, sum(len(row.ids) for row in rows)
        self._finish(call, vectors, started, seconds)
        self._measure(encoder.variant.name, tokens, seconds)
        oldest = started - min(job.queued for job in call)
        self._observer.on_call(Call(encoder.variant.name, len(call), tokens, oldest, seconds))
        self._report_queue()

    def _finish(self, call: Sequence[Job], vectors: Vectors, started: float, seconds: float) -> None:
        batches: set[Batch] = set()
        with self._changed:
            for job, vector in zip(call, vectors, strict=True):
                for batch, positions in self._jobs.finish(job).items():
                    batch.vectors[positions] = vector
                    batch.left -= len(positions)
                    batches.add(batch)
            for batch in batches:
                batch.queue_s = max(batch.queue_s, started - batch.queued)
                batch.compute_s += seconds
            ended = [batch for batch in batches if not batch.left]
        for batch in ended:
            batch.end()

    def _retry_or_fail(self, call: Sequence[Job], error: Exception) -> None:
        """Give each text of a failed call another one of its own; a text that fails alone fails its requests."""
        if len(call) > 1:
            for job in call:
                self._compute([job])
            return
        reason = REASONS.get(type(error), UNAVAILABLE)
        message = " ".join(str(system_error(error) or error).split())
        self._fail(call[0], reason, f"{call[0].encoder.variant.name}: {message}", computed=True)

    def _fail(self, job: Job, reason: Reason, message: str, *, computed: bool = False) -> None:
        with self._changed:
            requests = self._jobs.finish(job)
        for batch, positions in requests.items():
            refusal = RefusalError(reason, message, retry_after_s=1.0 if reason.retry else None)
            batch.fail(refusal, positions[0] if computed else None)

    def _measure(self, variant: str, tokens: int, seconds: float) -> None:
        speed = self._count * tokens / max(seconds, 1e-6)
        with self._changed:
            before = self._speeds.get(variant, speed)
            self._speeds[variant] = before + SMOOTHING * (speed - before)

    def _report_queue(self) -> None:
        load = self.load
        self._observer.on_queue(load.texts, load.tokens)


class UnsoundVectorError(Exception):
    """A model gave a vector that is not finite, has no length, or has another shape."""


# Why a text is refused that failed when it was computed alone; anything else that a library raises is "unavailable".
REASONS: dict[type[Exception], Reason] = {UnsoundVectorError: UNSOUND_VECTOR, UnusableRowError: INVALID_INPUT}


def _group(job: Job) -> Hashable:
    sharing = sharing_of(job.encoder.variant)
    if sharing is Sharing.NONE:
        return None
    return (id(job.encoder), len(job.row.ids) if sharing is Sharing.EQUAL_LENGTH else 0)


def _require_sound(vectors: Vectors, shape: tuple[int, int]) -> None:
    if vectors.shape != shape:
        raise UnsoundVectorError(f"gave vectors of shape {vectors.shape}, expected {shape}. None was sent.")
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise UnsoundVectorError("gave a vector that is not finite or has no length. It was not sent.")
