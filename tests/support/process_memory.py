"""Memory of a service's processes."""

import threading
import time
from contextlib import suppress
from typing import Self

import psutil

MIB = 1 << 20


def read_pss_mb(pid: int) -> float:
    """Return the memory of a process and all below it in MiB: what they share counts once."""
    total = 0.0
    for process in _list_tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / MIB


def list_workers(pid: int) -> list[int]:
    """Return the processes that a supervisor started."""
    return [process.pid for process in psutil.Process(pid).children()]


class PeakMemory:
    """The most memory that a process and all below it take while the block runs, in MiB.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self.before_mb = self.peak_mb = read_pss_mb(pid)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def grown_mb(self) -> float:
        """How far it rose above what it was at the start."""
        return self.peak_mb - self.before_mb

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            self.peak_mb = max(self.peak_mb, read_pss_mb(self._pid))


def wait_until_settled(pid: int, seconds: float = 20) -> float:
    """Wait until a process tree's memory no longer falls, and return it in MiB."""
    deadline, lowest = time.monotonic() + seconds, read_pss_mb(pid)
    while time.monotonic() < deadline:
        time.sleep(1)
        now = read_pss_mb(pid)
        if now > lowest - 1:
            return now
        lowest = now
    return lowest


def _list_tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
