"""The measuring side of the workers: one process a variant, asked one at a time, ended whatever happens."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from embed_foundry.errors import FoundryError, IntegrityError, RetryableError

PROGRAM = Path(__file__).with_name("worker.py")
# Every pool a library may size by itself.
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
# Seconds for one answer, opening included: far above any real one (EmbeddingGemma opens in 15 s).
TIMEOUT_S = 300.0


def environment(threads: int) -> dict[str, str]:
    """Return this process's environment with every thread pool pinned, for a measured one."""
    pins = dict.fromkeys(POOLS, str(threads)) | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    # Installed packages have their bytecode; compiling them at each start would be measured instead of the start.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | pins


class WorkerError(Exception):
    """A worker failed; `retryable` says that it died or hung, rather than that its encoder refused."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class Worker:
    """One variant in a fresh process with pinned threads.

    Args:
        folder: the variant folder.
        threads: CPU threads of every pool in the process.
        timeout_s: seconds that one answer may take.
        prefix: words before the command, such as those that put it under a quota.
    """

    def __init__(self, folder: Path, threads: int, timeout_s: float = TIMEOUT_S, prefix: Sequence[str] = ()) -> None:
        self.timeout_s = timeout_s
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-P", str(PROGRAM), str(folder), str(threads)],
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
        )

    def first_vector(self) -> float:
        """Wait until the worker is ready and return the seconds from its start to its first vector.

        Raises:
            WorkerError: it refused, died or hung.
        """
        self._exchange(b"")
        return time.perf_counter() - self.started

    def ask(self, do: str, texts: list[str] | None = None) -> dict[str, Any]:
        """Send one request of worker.py's protocol and return its answer.

        Raises:
            WorkerError: it refused, died or hung.
        """
        request = {"do": do} | ({} if texts is None else {"texts": texts})
        return self._exchange(json.dumps(request).encode() + b"\n")

    def end(self) -> None:
        """End the process, whatever it does, and release what belongs to it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.stderr):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:  # bytes that a dead worker will not read
                    continue

    def _exchange(self, request: bytes) -> dict[str, Any]:
        """Write a request, wait for one line. The watchdog's kill ends a blocked write as well as a blocked read."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin  # noqa: S101 - a pipe
        assert stdout  # noqa: S101 - a pipe
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.process.kill()

        watchdog = threading.Timer(self.timeout_s, expire)
        watchdog.daemon = True  # an interrupt just here must not leave the process waiting for its own watchdog
        try:
            watchdog.start()
            stdin.write(request)
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            watchdog.cancel()
        if not line.endswith(b"\n"):
            raise WorkerError(self._last_words(expired=expired.is_set()), retryable=True)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"], retryable=False)
        return answer

    def _last_words(self, *, expired: bool) -> str:
        if expired:
            return f"its process gave no answer for {self.timeout_s:g} s and was ended"
        code = self.process.wait()
        self.stderr.seek(0)
        said = self.stderr.read().decode(errors="replace").strip().splitlines()
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return f"its process died with {how}{hint}{f': {said[-1]}' if said else ''}"


class Team:
    """A worker for each variant; one that fails is noted and left out from then on, unless it is the baseline.

    Args:
        variants: name to variant folder.
        baseline: the variant without which there is nothing to compare.
        threads: CPU threads of each worker.
        timeout_s: seconds that one answer may take.
        prefix: words before each worker's command.
    """

    def __init__(
        self,
        variants: Mapping[str, Path],
        baseline: str,
        threads: int,
        timeout_s: float = TIMEOUT_S,
        prefix: Sequence[str] = (),
    ) -> None:
        self.variants = variants
        self.baseline = baseline
        self.threads = threads
        self.timeout_s = timeout_s
        self.prefix = prefix
        self.workers: dict[str, Worker] = {}
        self.errors: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """The variants that have not failed, in order."""
        return [name for name in self.variants if name not in self.errors]

    def start(self, name: str) -> float | None:
        """Start a variant's worker afresh and return the seconds to its first vector; None if it failed."""
        self.stop(name)
        worker = self.workers[name] = Worker(self.variants[name], self.threads, self.timeout_s, self.prefix)
        try:
            return worker.first_vector()
        except WorkerError as error:
            self._failed(name, error)
            return None

    def stop(self, name: str) -> None:
        """End a variant's worker; `start` may start it afresh."""
        if worker := self.workers.pop(name, None):
            worker.end()

    def ask(self, name: str, do: str, texts: list[str] | None = None) -> dict[str, Any] | None:
        """Return the answer of a variant's worker; None if it failed, now or before.

        Raises:
            IntegrityError: the baseline's encoder failed.
            RetryableError: the baseline's process died or hung.
        """
        if name in self.errors:
            return None
        try:
            return self.workers[name].ask(do, texts)
        except WorkerError as error:
            self._failed(name, error)
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.workers):
            self.stop(name)

    def _failed(self, name: str, error: WorkerError) -> None:
        self.stop(name)
        self.errors[name] = str(error)
        if name == self.baseline:
            kind: type[FoundryError] = RetryableError if error.retryable else IntegrityError
            step = "Free memory or CPU, then run again." if error.retryable else f"Next: dvc repro convert@{name}."
            raise kind(f"latency: the baseline {name} failed, and there is nothing to compare with: {error}. {step}")
