"""The asking side of worker.py: one variant in a process of its own, with typed requests and answers."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ..encoders.providers import CPU

PROGRAM = Path(__file__).with_name("worker.py")
# Every thread pool that a library may size by itself.
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
# Whether a worker is stopped between its answer and the next request, so that its threads do not spin beside the one
# that is timed. A stopped process does not see that its parent died: only on Linux it asks to be killed then.
STOPS_IDLE = sys.platform == "linux"
# Seconds for one answer, opening included: far above any real one (EmbeddingGemma opens in 15 s).
TIMEOUT_S = 300.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Request(Generic[Result]):
    """One request to worker.py; each subclass is a command, and `Result` the type of its answer."""

    command: ClassVar[str]
    texts: Sequence[str] = ()

    def to_line(self) -> bytes:
        """Return the request as worker.py reads it."""
        return json.dumps({"command": self.command, "texts": list(self.texts)}).encode() + b"\n"


class TokenCountRequest(Request[list[int]]):
    """Ask for the texts' lengths in tokens, special ones included, before truncation."""

    command = "count_tokens"


class EncodeRequest(Request[float]):
    """Ask for the milliseconds of one `encode` of all the texts."""

    command = "encode"


class OperationsRequest(Request[int]):
    """Ask for the operations of one `encode`'s matrix products; only torch can count them."""

    command = "operations"


class PeakRssRequest(Request[float]):
    """Ask for the process's peak resident memory in 10^6 bytes."""

    command = "peak_rss_mb"


class ProvidersRequest(Request[list[str]]):
    """Ask for the execution providers that compute, in order."""

    command = "providers"


class WorkerError(Exception):
    """A worker failed.

    Attributes:
        retryable: whether it died or hung; otherwise its encoder raised an error.
    """

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


def build_environment(threads: int) -> dict[str, str]:
    """Return the environment variables of a measured process: this process's, with every thread pool pinned."""
    pins = dict.fromkeys(POOLS, str(threads)) | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    # Installed packages have their bytecode; without it each start would measure the compiler.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | pins


class WorkerProcess:
    """One variant in a fresh process with pinned threads.

    Args:
        folder: the variant folder.
        threads: CPU threads of every pool in the process.
        timeout_s: seconds that one answer may take.
        command_prefix: arguments before the command, such as those that put it under a quota.
        cpus: the CPUs that it may use; empty means all that this process may.
        providers: execution providers that the encoder tries, in order.
    """

    def __init__(
        self,
        folder: Path,
        threads: int,
        timeout_s: float = TIMEOUT_S,
        command_prefix: Sequence[str] = (),
        cpus: Collection[int] = (),
        providers: Sequence[str] = CPU,
    ) -> None:
        self.timeout_s = timeout_s
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [*command_prefix, sys.executable, "-P", str(PROGRAM), str(folder), str(threads), ",".join(providers)],
            env=build_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
        )
        if cpus and sys.platform == "linux":
            os.sched_setaffinity(self.process.pid, cpus)

    def wait_until_ready(self) -> float:
        """Wait for the first vector and return the seconds from the process's start to it.

        Raises:
            WorkerError: the encoder failed, or the process died or hung.
        """
        self._exchange(b"")
        return time.perf_counter() - self.started

    def ask(self, request: Request[Result]) -> Result:
        """Send a request and return its result.

        Raises:
            WorkerError: the encoder failed, or the process died or hung.
        """
        result: Result = self._exchange(request.to_line())["result"]
        return result

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

    def _exchange(self, line: bytes) -> dict[str, Any]:
        """Write a line and return the answer. The watchdog's kill ends a blocked write as well as a blocked read."""
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
            self._signal(signal.SIGCONT)
            stdin.write(line)
            stdin.flush()
            reply = stdout.readline()
        except BrokenPipeError:
            reply = b""
        finally:
            watchdog.cancel()
        if not reply.endswith(b"\n"):
            raise WorkerError(self._describe_end(expired=expired.is_set()), retryable=True)
        self._signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(reply)
        if "error" in answer:
            raise WorkerError(answer["error"], retryable=False)
        return answer

    def _signal(self, number: signal.Signals) -> None:
        if STOPS_IDLE:
            self.process.send_signal(number)

    def _describe_end(self, *, expired: bool) -> str:
        """Return how the process ended, with the last line that it wrote to stderr."""
        if expired:
            return f"its process did not answer for {self.timeout_s:g} s and was killed"
        code = self.process.wait()
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return f"its process died with {how}{hint}{f': {lines[-1]}' if lines else ''}"
