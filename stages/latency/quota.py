"""A CPU quota for the measured processes, as a container host sets one: the target's conditions on this machine.

Linux only, by a control group of version 2 or 1 (docs.kernel.org: admin-guide/cgroup-v2, scheduler/sched-bwc): its
processes together get `cpus` x 100 ms of CPU time in every 100 ms and stand still for the rest. Only one worker
computes at a time, so one group stands for the one process of a service.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common.measure import host

PERIOD_US = 100_000


@dataclass(frozen=True)
class Quota:
    """What was asked for, and whether it holds.

    Attributes:
        cpus: CPUs asked for; None for no quota.
        group: the control group that enforces it; None if there is none.
        why: why an asked-for quota is not enforced.
    """

    cpus: float | None
    group: Path | None = None
    why: str = ""

    @property
    def prefix(self) -> list[str]:
        """Words before a command that make it and its threads start inside the group."""
        if self.group is None:
            return []
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.group / "cgroup.procs")]

    def record(self) -> dict[str, Any]:
        """Return what latency.json says of it: cpus, enforced, and throttled_s (stood still so far) or why not."""
        if self.cpus is None:
            return {"cpus": None, "enforced": False}
        if self.group is None:
            return {"cpus": self.cpus, "enforced": False, "why": self.why}
        held_back = host.throttled_s([self.group]) or 0.0
        return {"cpus": self.cpus, "enforced": True, "throttled_s": round(held_back, 3)}


@contextmanager
def enforced(cpus: float | None) -> Iterator[Quota]:
    """Make a control group with the quota, and remove it in the end; its processes must have ended by then.

    A machine that does not permit it yields a Quota without a group, which says why.

    Args:
        cpus: CPUs, such as 0.5; None for no quota.
    """
    if cpus is None:
        yield Quota(None)
        return
    tried = []
    for root, files in host.cpu_controllers():
        group = root / f"embed-foundry-{os.getpid()}"
        try:
            group.mkdir()
            for name, value in files(round(cpus * PERIOD_US), PERIOD_US).items():
                (group / name).write_text(value, encoding="ascii")
        except OSError as error:
            tried.append(f"{root}: {error.strerror}")
            if group.is_dir():
                group.rmdir()
            continue
        try:
            yield Quota(cpus, group)
        finally:
            group.rmdir()
        return
    yield Quota(cpus, why="; ".join(tried) or "this system has no control groups for CPU time")
