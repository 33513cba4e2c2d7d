"""A CPU quota for the measured processes, as a container host sets one: the target's conditions on this machine.

Linux only, by a control group of version 2 or 1 (docs.kernel.org: admin-guide/cgroup-v2, scheduler/sched-bwc): the
processes of the group together get `cpus` x 100 ms of CPU time in every 100 ms and stand still for the rest. Only one
worker computes at a time, so one group stands for the one process of a service.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages.common.measure import host
from stages.common.records.latency import Quota

PERIOD_US = 100_000


@dataclass(frozen=True)
class CpuQuota:
    """A quota and the control group that enforces it.

    Attributes:
        cpus: CPUs, such as 0.5; None for no quota.
        group: the control group's folder; None if nothing enforces the quota.
        why: why nothing enforces it.
    """

    cpus: float | None
    group: Path | None = None
    why: str = ""

    @property
    def command_prefix(self) -> list[str]:
        """The arguments before a command that start it, and all its threads, inside the group."""
        if self.group is None:
            return []
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.group / "cgroup.procs")]

    def to_record(self) -> Quota:
        """Return what latency.json says of the quota, the time that its processes have stood still so far included."""
        if self.cpus is None:
            return Quota(cpus=None, enforced=False)
        if self.group is None:
            return Quota(cpus=self.cpus, enforced=False, why=self.why)
        throttled_s = host.read_throttled_s([self.group]) or 0.0
        return Quota(cpus=self.cpus, enforced=True, throttled_s=round(throttled_s, 3))


@contextmanager
def enforce_quota(cpus: float | None) -> Iterator[CpuQuota]:
    """Make a control group with the quota, and remove it at the end; its processes must have ended by then.

    Where the machine does not permit that, the yielded quota has no group and says why.

    Args:
        cpus: CPUs, such as 0.5; None for no quota.
    """
    if cpus is None:
        yield CpuQuota(None)
        return
    refusals = []
    for controller in host.list_cpu_controllers():
        group = controller.root / f"embed-foundry-{os.getpid()}"
        try:
            group.mkdir()
            for name, value in controller.quota_files(round(cpus * PERIOD_US), PERIOD_US).items():
                (group / name).write_text(value, encoding="ascii")
        except OSError as error:
            refusals.append(f"{controller.root}: {error.strerror}")
            if group.is_dir():
                group.rmdir()
            continue
        try:
            yield CpuQuota(cpus, group)
        finally:
            group.rmdir()
        return
    yield CpuQuota(cpus, why="; ".join(refusals) or "this system has no control groups for CPU time")
