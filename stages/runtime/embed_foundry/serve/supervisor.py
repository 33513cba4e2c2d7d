"""Several processes on one port: they are started, told to stop, and started again when they die.

The supervisor binds the port and follows the source once; each worker answers requests with encoders of its own and
takes its releases from the same folder. A worker's listener is the supervisor's: while one worker is away, the others
accept its connections.
"""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from prometheus_client import multiprocess

from ..cpus import available_cpus
from ..errors import FoundryError
from . import systemd
from .metrics import MULTIPROCESS
from .settings import Settings
from .source import Watch

# So many deaths within so many seconds end the service: what kills workers again and again does not pass by itself.
DEATHS, WITHIN_S = 5, 60.0
# Wait before a worker is started again, in seconds; doubled for each death within WITHIN_S.
PAUSE_S = 0.25
TICK_S = 0.1
# Seconds beyond `drain_s` after which a worker that was told to stop is killed.
GRACE_S = 10.0


@dataclass(frozen=True)
class Job:
    """What every worker does.

    Attributes:
        watch: finds releases.
        settings: of the whole service.
        listener: file descriptor of the listening socket.
        metrics: folder in which each worker counts, so that any of them can answer with the sum.
    """

    watch: Watch
    settings: Settings
    listener: int = -1
    metrics: str = ""


@dataclass
class _Worker:
    process: "subprocess.Popen[bytes]"
    started: float = field(default_factory=time.monotonic)


def supervise(listener: socket.socket, job: Job) -> None:
    """Run the workers until SIGTERM or Ctrl-C.

    Raises:
        FoundryError: workers die again and again.
    """
    settings = job.settings
    threads = settings.threads or max(1, available_cpus() // settings.processes)
    deaths: deque[float] = deque(maxlen=DEATHS)
    with _signals() as received, tempfile.TemporaryDirectory(prefix="embed-foundry-") as metrics:
        settings = replace(settings, threads=threads)
        job = replace(job, settings=settings, listener=listener.fileno(), metrics=metrics)
        workers = [_start(job) for _ in range(settings.processes)]
        systemd.notify("READY=1")
        try:
            while not received:
                time.sleep(TICK_S)
                for index, worker in enumerate(workers):
                    if worker.process.poll() is not None and not received:
                        workers[index] = _restart(job, worker, deaths)
        finally:
            systemd.notify("STOPPING=1")
            listener.close()
            _stop([worker.process for worker in workers], received, settings.drain_s + GRACE_S)


def _start(job: Job) -> _Worker:
    """Start a worker. Its standard input ends when the supervisor does, however that ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.worker"],
        stdin=subprocess.PIPE,
        pass_fds=[job.listener],
        env=os.environ | {MULTIPROCESS: job.metrics},
        start_new_session=True,  # Ctrl-C reaches the supervisor alone, which tells the workers
    )
    assert process.stdin  # noqa: S101
    with contextlib.suppress(BrokenPipeError):  # it died at once; the next look says so
        process.stdin.write(pickle.dumps(job))
        process.stdin.flush()
    return _Worker(process)


def _restart(job: Job, dead: _Worker, deaths: "deque[float]") -> _Worker:
    """Start a worker in place of a dead one, after a pause that grows while workers die.

    Raises:
        FoundryError: too many died.
    """
    now = time.monotonic()
    deaths.append(now)
    recent = sum(now - death < WITHIN_S for death in deaths)
    end = _describe_end(dead.process.returncode)
    if recent == DEATHS:
        raise FoundryError(
            f"{DEATHS} workers died within {WITHIN_S:.0f} s, the last one {now - dead.started:.0f} s after its start, "
            f"{end}. Look at what it wrote before; if it was killed for memory, use fewer --processes."
        )
    print(f"worker {dead.process.pid} ended {end}; another one is started", file=sys.stderr, flush=True)
    os.environ[MULTIPROCESS] = job.metrics
    multiprocess.mark_process_dead(dead.process.pid, job.metrics)  # type: ignore[no-untyped-call]
    with contextlib.suppress(BrokenPipeError):  # it died before it had read its job
        if dead.process.stdin:
            dead.process.stdin.close()
    time.sleep(PAUSE_S * 2 ** (recent - 1))
    return _start(job)


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"with code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Yield a list to which SIGTERM and SIGINT are added as they come; the second one ends the process."""
    received: list[int] = []

    def receive(number: int, _frame: object) -> None:
        received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(processes: "list[subprocess.Popen[bytes]]", received: list[int], seconds: float) -> None:
    """Tell the workers to stop and wait for them; a second signal, or too long a wait, kills them."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes):
        twice = len(received) > 1
        if twice or time.monotonic() > deadline:
            for process in processes:
                process.kill()
            if twice:
                os._exit(128 + received[-1])
        time.sleep(TICK_S / 2)
