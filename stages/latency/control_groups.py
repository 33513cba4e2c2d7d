"""A CPU quota and a memory limit for the measured processes, as a target sets them: its conditions on this machine.

Linux only, by control groups of version 2 or 1 (docs.kernel.org: admin-guide/cgroup-v2, cgroup-v1/memory,
scheduler/sched-bwc): the processes of a group together get `cpus` x 100 ms of CPU time in every 100 ms and stand still
for the rest; the kernel ends them when they need more memory than the group may have. Every worker has a group of its
own, as a service's one process has: none pays for what another one has used up.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stages.common.config import Resources
from stages.common.measure import host
from stages.common.measure.host import Controller
from stages.common.records.latency import Quota

PERIOD_US = 100_000
MB = 1_000_000
# Controller -> what it limits, for messages.
WORDS = {"cpu": "CPU time", "memory": "memory"}


@dataclass(frozen=True)
class Enforcement:
    """How one limit is enforced.

    Attributes:
        groups: name of a process -> its control group's folder; empty if nothing enforces the limit.
        why: why nothing enforces it.
    """

    groups: Mapping[str, Path] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class ControlGroups:
    """The limits of the measured processes.

    Attributes:
        resources: the target's.
        cpu: of the CPU quota; None if there is none.
        memory: of the memory limit; None if the target does not ask for it.
    """

    resources: Resources
    cpu: Enforcement | None = None
    memory: Enforcement | None = None

    @property
    def throttles(self) -> bool:
        """Whether a CPU quota is in force."""
        return self.cpu is not None and bool(self.cpu.groups)

    @property
    def prefixes(self) -> dict[str, list[str]]:
        """Name -> the arguments before a command that start it, and all its threads, inside its groups."""
        groups: dict[str, dict[Path, None]] = {}
        for enforcement in filter(None, (self.cpu, self.memory)):
            for name, group in enforcement.groups.items():
                groups.setdefault(name, {})[group] = None
        return {name: [part for group in own for part in _enter(group)] for name, own in groups.items()}

    def to_record(self) -> Quota:
        """Return what latency.json says of the limits, the time that the processes have stood still so far included."""
        throttled_s = None
        if self.cpu and self.throttles:
            throttled_s = round(host.read_throttled_s(list(self.cpu.groups.values())) or 0.0, 3)
        return Quota(
            cpus=self.resources.cpus,
            enforced=self.throttles,
            why=self.cpu.why if self.cpu and not self.throttles else None,
            throttled_s=throttled_s,
            memory_mb=self.resources.memory_mb if self.memory else None,
            memory_enforced=bool(self.memory.groups) if self.memory else None,
            memory_why=self.memory.why if self.memory and not self.memory.groups else None,
        )


@contextmanager
def enforce(resources: Resources, names: Sequence[str], any_memory: Collection[str] = ()) -> Iterator[ControlGroups]:
    """Make control groups with the limits for each process; remove them at the end, when the processes have ended.

    Where the machine does not permit that, what is yielded has no groups and says why.

    Args:
        resources: the target's.
        names: the processes'.
        any_memory: those of them that may take any memory: the baseline, which does not run at the target.
    """
    with ExitStack() as made:
        cpu = memory = None
        if resources.cpus is not None:
            quota_us = round(resources.cpus * PERIOD_US)
            cpu = _enforce("cpu", names, lambda group: group.quota_files(quota_us, PERIOD_US), made)
        if resources.enforce_memory:
            limited = [name for name in names if name not in any_memory]
            most = resources.memory_mb * MB
            memory = _enforce("memory", limited, lambda group: group.memory_files(most), made)
        yield ControlGroups(resources, cpu, memory)


def _enter(group: Path) -> list[str]:
    return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]


def _enforce(
    controller: str, names: Sequence[str], files: Callable[[Controller], Mapping[str, str]], made: ExitStack
) -> Enforcement:
    """Make a group for each name in the first hierarchy that permits it; `made` removes them."""
    refusals = []
    for hierarchy in host.list_controllers(controller):
        with ExitStack() as attempt:
            try:
                groups = {name: _make_group(hierarchy, name, files(hierarchy), attempt) for name in names}
            except OSError as error:
                refusals.append(f"{hierarchy.root}: {error.strerror}")
                continue
            made.push(attempt.pop_all())
            return Enforcement(groups)
    return Enforcement(why="; ".join(refusals) or f"this system has no control groups for {WORDS[controller]}")


def _make_group(hierarchy: Controller, name: str, files: Mapping[str, str], made: ExitStack) -> Path:
    """Make a control group that `made` removes; in version 2 one group has all limits."""
    group = hierarchy.root / f"embed-foundry-{os.getpid()}-{name}"
    if not group.exists():
        group.mkdir()
        made.callback(group.rmdir)
    for file, value in files.items():
        (group / file).write_text(value, encoding="ascii")
    return group
