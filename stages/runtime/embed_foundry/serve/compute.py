"""Lanes: threads that compute the calls of all variants, one queue for the process."""

import threading
import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..encoders.encoder import Encoder
from ..encoders.rows import Tokens
from ..encoders.vectors import Vectors
from ..system_errors import system_error
from .batching import Sharing, WaitingTexts, sharing_of
from .observer import Call, Observer
from .refusals import DEADLINE, OVERLOADED, UNAVAILABLE, UNSOUND_VECTOR, Reason, RefusalError

# Texts of one call, at most: larger ones are no faster on a CPU, and keep a lane from the next request.
CALL_TEXTS = 32
# Weight of the newest call in the moving speed.
SMOOTHING = 0.1


@dataclass(eq=False)
class Batch:
    """The texts of one request that are computed.

    Attributes:
        encoder: of their variant.
        rows: the texts.
        deadline: when their vectors are useless, by time.monotonic.
        vectors: float32 [len(rows), dimensions], filled in by lanes.
        future: resolved on its loop when all are there, or one failed.
        loop: that loop.
        queued: when they came, by time.monotonic.
        left: how many are missing.
        queue_s: longest wait of one of them.
        compute_s: the sum of their calls.
    """

    encoder: Encoder
    rows: Sequence[Tokens]
    deadline: float
    vectors: Vectors
    future: "Future[None]"
    loop: AbstractEventLoop
    queued: float = field(default_factory=time.monotonic)
    left: int = 0
    queue_s: float = 0.0
    compute_s: float = 0.0
    failure: RefusalError | None = None

    @property
    def alive(self) -> bool:
        """Whether somebody still waits for it."""
        return self.failure is None and not self.future.cancelled()


@dataclass(frozen=True)
class Text:
    """One text of a batch."""

    batch: Batch
    row: int


class Lanes:
    """Threads that take the next call from the queue and compute it.

    Args:
        count: how many.
        most_tokens: of one call; a longer text has a call of its own.
        most_waiting: tokens that may wait; more are refused.
        observer: is told of every call.
    """

    def __init__(self, count: int, most_tokens: int, most_waiting: int, observer: Observer) -> None:
        self._most_tokens, self._most_waiting, self._observer = most_tokens, most_waiting, observer
        self._waiting: WaitingTexts[Text] = WaitingTexts(lambda text: text.batch.alive)
        self._changed = threading.Condition()
        self._closed = False
        self._batches = 0  # that wait or are computed
        self.tokens_per_s = 0.0  # of all lanes together, a moving figure; 0 before the first call
        self._count = count
        self._threads = [threading.Thread(target=self._run, name=f"lane-{lane}", daemon=True) for lane in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tokens that wait for a lane."""
        return self._waiting.tokens

    @property
    def waiting_texts(self) -> int:
        """Texts that wait for a lane."""
        return self._waiting.texts

    def submit(self, batch: Batch) -> None:
        """Queue the texts of a request.

        Raises:
            RefusalError: overloaded, unavailable.
        """
        tokens = [len(row.ids) for row in batch.rows]
        batch.left = len(batch.rows)
        groups = [_group(batch.encoder, row) for row in batch.rows]
        with self._changed:
            if self._closed:
                raise RefusalError(UNAVAILABLE, "this process is ending. Ask again.", retry_after_s=1)
            self._require_room(sum(tokens), batch.deadline - time.monotonic())
            self._batches += 1
            batch.future.add_done_callback(self._leave)  # answered, failed or cancelled: the client left
            self._waiting.add([Text(batch, row) for row in range(len(tokens))], tokens, groups)
            self._changed.notify(len(tokens))
        self._observer.on_queue(self.waiting_texts, self.waiting_tokens)

    def close(self) -> None:
        """Let running calls end; whoever waits is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _require_room(self, tokens: int, seconds: float) -> None:
        """Refuse a request that the queue has no room for, or that would outlast its deadline.

        With fair queueing a request waits for at most as many tokens of each other request as it has itself.
        """
        waiting = self._waiting.tokens
        if waiting and waiting + tokens > self._most_waiting:
            raise RefusalError(
                OVERLOADED,
                f"{waiting} tokens wait, and {tokens} more would be over this service's limit of {self._most_waiting}. "
                "Ask again later, or send fewer texts.",
                retry_after_s=max(1.0, waiting / self.tokens_per_s) if self.tokens_per_s else 1.0,
            )
        if not self.tokens_per_s:
            return
        needed = (tokens + min(waiting, tokens * self._batches)) / self.tokens_per_s
        if waiting and needed > seconds:
            raise RefusalError(
                OVERLOADED,
                f"{waiting} tokens wait; an answer would take about {needed:.1f} s, over the deadline of {seconds:.1f} "
                "s. Ask again later, or send fewer texts.",
                retry_after_s=max(1.0, needed - seconds),
            )

    def _run(self) -> None:
        while call := self._take():
            self._compute(call)

    def _take(self) -> list[Text]:
        """Wait for the next call; nothing when the lanes are closed."""
        with self._changed:
            while not self._closed:
                if call := self._waiting.take(self._most_tokens, CALL_TEXTS):
                    return call
                self._changed.wait()
            for text in iter(lambda: self._waiting.take(1, 1), []):
                _fail(text[0].batch, UNAVAILABLE, "this process is ending. Ask again.")
        return []

    def _compute(self, call: list[Text]) -> None:
        started = time.monotonic()
        late = [text for text in call if text.batch.deadline <= started]
        for text in late:
            _fail(text.batch, DEADLINE, "the deadline passed while the text waited. Ask again later.")
        if not (call := [text for text in call if text.batch.alive]):
            return
        encoder = call[0].batch.encoder
        rows = [text.batch.rows[text.row] for text in call]
        try:
            vectors = encoder.embed(rows)
            _require_sound(vectors, (len(rows), encoder.variant.dimensions))
        except Exception as error:
            self._retry_or_fail(call, error)
            return
        seconds = time.monotonic() - started
        tokens = sum(len(row.ids) for row in rows)
        self._measure(tokens, seconds)
        for text, vector in zip(call, vectors, strict=True):
            self._finish(text, vector, started, seconds)
        oldest = started - min(text.batch.queued for text in call)
        self._observer.on_call(Call(encoder.variant.name, len(call), tokens, oldest, seconds))
        self._observer.on_queue(self.waiting_texts, self.waiting_tokens)

    def _finish(self, text: Text, vector: Vectors, started: float, seconds: float) -> None:
        batch = text.batch
        batch.vectors[text.row] = vector
        batch.queue_s = max(batch.queue_s, started - batch.queued)
        with self._changed:
            batch.compute_s += seconds
            batch.left -= 1
            ended = batch.left == 0
        if ended:
            batch.loop.call_soon_threadsafe(_resolve, batch)

    def _retry_or_fail(self, call: list[Text], error: Exception) -> None:
        """Give each text of a failed call another one of its own; a text that fails alone fails its request."""
        if len(call) > 1:
            for text in call:
                self._compute([text])
            return
        reason = UNSOUND_VECTOR if isinstance(error, UnsoundVectorError) else UNAVAILABLE
        refused = system_error(error) or error
        message = " ".join(str(refused).split())
        _fail(call[0].batch, reason, f"{call[0].batch.encoder.variant.name}: {message}")

    def _measure(self, tokens: int, seconds: float) -> None:
        speed = self._count * tokens / max(seconds, 1e-6)
        with self._changed:
            before = self.tokens_per_s or speed
            self.tokens_per_s = before + SMOOTHING * (speed - before)

    def _leave(self, _future: "Future[None]") -> None:
        with self._changed:
            self._batches -= 1


class UnsoundVectorError(Exception):
    """A model gave a vector that is not finite, has no length, or has another shape."""


def _group(encoder: Encoder, row: Tokens) -> Hashable:
    sharing = sharing_of(encoder.variant)
    if sharing is Sharing.NONE:
        return None
    return (id(encoder), len(row.ids) if sharing is Sharing.EQUAL_LENGTH else 0)


def _require_sound(vectors: Vectors, shape: tuple[int, int]) -> None:
    if vectors.shape != shape:
        raise UnsoundVectorError(f"gave vectors of shape {vectors.shape}, expected {shape}. None was sent.")
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise UnsoundVectorError("gave a vector that is not finite or has no length. It was not sent.")


def _fail(batch: Batch, reason: Reason, message: str) -> None:
    if batch.failure is None:
        batch.failure = RefusalError(reason, message, retry_after_s=1.0 if reason.retry else None)
        batch.loop.call_soon_threadsafe(_resolve, batch)


def _resolve(batch: Batch) -> None:
    if batch.future.done():
        return
    if batch.failure:
        batch.future.set_exception(batch.failure)
    else:
        batch.future.set_result(None)
