"""A worker process for each variant: asked one at a time, ended whatever happens."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from ..encoders.providers import CPU
from ..errors import FoundryError, IntegrityError, RetryableError
from .worker_process import TIMEOUT_S, Request, Result, WorkerError, WorkerProcess


class WorkerPool:
    """A worker for each variant; one that fails is recorded and left out from then on, unless it is the baseline.

    Entering it keeps one CPU for the asking process and the others for the workers, where there are more CPUs than a
    worker has threads. Left to the scheduler, a worker may spend its whole life on the CPU that asks, whose work evicts
    its caches: of two equal small variants, one took 72 microseconds a call and the other 50.

    Args:
        variants: name to variant folder.
        baseline: the variant without which there is nothing to compare with.
        threads: CPU threads of each worker.
        timeout_s: seconds that one answer may take.
        prefixes: name -> arguments before the worker's command.
        providers: ONNX Runtime's execution providers that the workers try, in order.
        repair: what to do about a baseline whose encoder fails, for the message.

    Attributes:
        errors: name -> why a variant failed.
    """

    def __init__(
        self,
        variants: Mapping[str, Path],
        baseline: str,
        threads: int,
        timeout_s: float = TIMEOUT_S,
        prefixes: Mapping[str, Sequence[str]] = MappingProxyType({}),
        providers: Sequence[str] = CPU,
        *,
        repair: str,
    ) -> None:
        self.variants = variants
        self.baseline = baseline
        self.threads = threads
        self.timeout_s = timeout_s
        self.prefixes = prefixes
        self.providers = providers
        self.repair = repair
        self.workers: dict[str, WorkerProcess] = {}
        self.errors: dict[str, str] = {}
        self._allowed_cpus: set[int] = set()
        self._worker_cpus: set[int] = set()

    @property
    def names(self) -> list[str]:
        """The variants that have not failed, in order."""
        return [name for name in self.variants if name not in self.errors]

    def start(self, name: str) -> float | None:
        """Start a variant's worker afresh and return the seconds to its first vector; None if it failed.

        Raises:
            IntegrityError: the baseline's encoder failed.
            RetryableError: the baseline's process died or hung.
        """
        self.stop(name)
        prefix = self.prefixes.get(name, ())
        worker = WorkerProcess(
            self.variants[name], self.threads, self.timeout_s, prefix, self._worker_cpus, self.providers
        )
        self.workers[name] = worker
        try:
            return worker.wait_until_ready()
        except WorkerError as error:
            self._record_failure(name, error)
            return None

    def stop(self, name: str) -> None:
        """End a variant's worker; `start` may start it afresh."""
        if worker := self.workers.pop(name, None):
            worker.end()

    def ask(self, name: str, request: Request[Result]) -> Result | None:
        """Return the result of a variant's worker; None if it failed, now or before.

        Raises:
            IntegrityError: the baseline's encoder failed.
            RetryableError: the baseline's process died or hung.
        """
        if name in self.errors:
            return None
        try:
            return self.workers[name].ask(request)
        except WorkerError as error:
            self._record_failure(name, error)
            return None

    def ask_baseline(self, request: Request[Result]) -> Result:
        """Return the result of the baseline's worker.

        Raises:
            IntegrityError: the baseline's encoder failed.
            RetryableError: the baseline's process died or hung.
        """
        result = self.ask(self.baseline, request)
        assert result is not None  # noqa: S101 - a baseline that fails raises an error
        return result

    def __enter__(self) -> Self:
        if sys.platform == "linux" and len(allowed := os.sched_getaffinity(0)) > self.threads:
            own = max(allowed)
            os.sched_setaffinity(0, {own})
            self._allowed_cpus, self._worker_cpus = allowed, allowed - {own}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.workers):
            self.stop(name)
        if self._allowed_cpus:
            os.sched_setaffinity(0, self._allowed_cpus)

    def _record_failure(self, name: str, error: WorkerError) -> None:
        self.stop(name)
        self.errors[name] = str(error)
        if name == self.baseline:
            error_type: type[FoundryError] = RetryableError if error.retryable else IntegrityError
            step = "Free memory or CPU, then run again." if error.retryable else self.repair
            raise error_type(
                f"latency: the baseline {name} failed, so there is nothing to compare with: {error}. {step}"
            )
