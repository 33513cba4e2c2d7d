"""A CPU quota for the measured processes, as a container host sets one: the target's conditions on this machine.

Linux only, by a control group of version 2 or 1 (docs.kernel.org: admin-guide/cgroup-v2, scheduler/sched-bwc): the
processes of a group together get `cpus` x 100 ms of CPU time in every 100 ms and stand still for the rest. Every worker
has a group of its own, as a service's one process has: none pays for what another one has used up.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stages.common.measure import host
from stages.common.records.latency import Quota

PERIOD_US = 100_000


@dataclass(frozen=True)
class CpuQuota:
    """A quota and the control groups that enforce it.

    Attributes:
        cpus: CPUs, such as 0.5; None for no quota.
        groups: name of a process -> its control group's folder; empty if nothing enforces the quota.
        why: why nothing enforces it.
    """

    cpus: float | None
    groups: Mapping[str, Path] = field(default_factory=dict)
    why: str = ""

    @property
    def prefixes(self) -> dict[str, list[str]]:
        """Name -> the arguments before a command that start it, and all its threads, inside its group."""
        return {
            name: ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
            for name, group in self.groups.items()
        }

    def to_record(self) -> Quota:
        """Return what latency.json says of the quota, the time that its processes have stood still so far included."""
        if self.cpus is None:
            return Quota(cpus=None, enforced=False)
        if not self.groups:
            return Quota(cpus=self.cpus, enforced=False, why=self.why)
        throttled_s = host.read_throttled_s(list(self.groups.values())) or 0.0
        return Quota(cpus=self.cpus, enforced=True, throttled_s=round(throttled_s, 3))


@contextmanager
def enforce_quota(cpus: float | None, names: Sequence[str]) -> Iterator[CpuQuota]:
    """Make a control group with the quota for each process; remove them at the end, when the processes have ended.

    Where the machine does not permit that, the yielded quota has no groups and says why.

    Args:
        cpus: CPUs, such as 0.5; None for no quota.
        names: the processes'.
    """
    if cpus is None:
        yield CpuQuota(None)
        return
    refusals = []
    for controller in host.list_cpu_controllers():
        with ExitStack() as made:
            try:
                groups = {name: _make_group(controller, name, cpus, made) for name in names}
            except OSError as error:
                refusals.append(f"{controller.root}: {error.strerror}")
                continue
            yield CpuQuota(cpus, groups)
        return
    yield CpuQuota(cpus, why="; ".join(refusals) or "this system has no control groups for CPU time")


def _make_group(controller: host.CpuController, name: str, cpus: float, made: ExitStack) -> Path:
    """Make a control group that `made` removes."""
    group = controller.root / f"embed-foundry-{os.getpid()}-{name}"
    group.mkdir()
    made.callback(group.rmdir)
    for file, value in controller.quota_files(round(cpus * PERIOD_US), PERIOD_US).items():
        (group / file).write_text(value, encoding="ascii")
    return group
