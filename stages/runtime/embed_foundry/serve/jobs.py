"""What is to be computed: texts, each once for all the requests that ask for it meanwhile."""

import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from ..encoders.encoder import Encoder
from ..encoders.rows import Tokens
from ..encoders.vectors import Vectors
from .refusals import RefusalError


@dataclass(eq=False)
class Batch:
    """The texts of one request that are computed.

    Attributes:
        encoder: of their variant.
        rows: the texts.
        keys: texts with equal keys have the same vector; None shares a text's vector with no other request.
        deadline: when their vectors are useless, by time.monotonic.
        vectors: float32 [len(rows), dimensions], filled in by lanes.
        future: resolved on its loop when all are there, or one failed; whoever gives up cancels it.
        loop: that loop.
        queued: when they came, by time.monotonic.
        left: how many are missing.
        queue_s: longest wait of one of them.
        compute_s: the sum of the calls that they had a part in.
        failure: why there is no answer.
        failed_row: the row that failed when it was computed alone; None if none did.
    """

    encoder: Encoder
    rows: Sequence[Tokens]
    keys: Sequence[Hashable]
    deadline: float
    vectors: Vectors
    future: "Future[None]"
    loop: AbstractEventLoop
    queued: float = field(default_factory=time.monotonic)
    left: int = 0
    queue_s: float = 0.0
    compute_s: float = 0.0
    failure: RefusalError | None = None
    failed_row: int | None = None

    @property
    def alive(self) -> bool:
        """Whether somebody still waits for it."""
        return self.failure is None and not self.future.cancelled() and self.deadline > time.monotonic()

    def fail(self, refusal: RefusalError, row: int | None) -> None:
        """End it without an answer; the first reason counts."""
        if self.failure is None:
            self.failure, self.failed_row = refusal, row
            self.end()

    def end(self) -> None:
        """Wake whoever waits for it, from any thread."""
        self.loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self.future.done():
            return
        if self.failure:
            self.future.set_exception(self.failure)
        else:
            self.future.set_result(None)


@dataclass(eq=False)
class Job:
    """One text that is computed.

    Attributes:
        encoder: of its variant.
        row: the text.
        key: see `Batch.keys`.
        requests: those that wait for it, each with the positions that its text has among their rows.
        started: whether a call has it.
        queued: when it came, by time.monotonic.
    """

    encoder: Encoder
    row: Tokens
    key: Hashable
    requests: dict[Batch, list[int]] = field(default_factory=dict)
    started: bool = False
    queued: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Turn:
    """A job in the queue, when it is the turn of one of the requests that ask for it."""

    job: Job
    batch: Batch

    def claim(self) -> bool:
        """Take the job for a call, unless another request's turn came first or this request needs it no more."""
        if self.job.started or not self.batch.alive:
            return False
        self.job.started = True
        return True


class Jobs:
    """The jobs that wait or are computed, by key. Callers hold a lock."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Job] = {}

    def find(self, batch: Batch) -> list[Job]:
        """Return the job of each row of a request: those that are there already, and new ones."""
        own: dict[Hashable, Job] = {}
        jobs = []
        for row, key in zip(batch.rows, batch.keys, strict=True):
            job = None if key is None else own.get(key) or self._by_key.get(key)
            job = job or Job(batch.encoder, row, key)
            if key is not None:
                own[key] = job
            jobs.append(job)
        return jobs

    def ask(self, batch: Batch, jobs: Sequence[Job]) -> None:
        """Take note that a request waits for jobs, one a row."""
        batch.left = len(jobs)
        for position, job in enumerate(jobs):
            job.requests.setdefault(batch, []).append(position)
            if job.key is not None:
                self._by_key[job.key] = job

    def leave(self, batch: Batch, jobs: Sequence[Job]) -> None:
        """Forget that a request waits for jobs, and jobs that nobody asks for any more."""
        for job in jobs:
            job.requests.pop(batch, None)
            if not (job.requests or job.started) and self._by_key.get(job.key) is job:
                del self._by_key[job.key]

    def finish(self, job: Job) -> dict[Batch, list[int]]:
        """Forget a job; return who waits for it."""
        if self._by_key.get(job.key) is job:
            del self._by_key[job.key]
        return dict(job.requests)
