"""This machine: what identifies it to a measurement, and what else it did while one ran.

Linux in full; other systems as far as psutil and py-cpuinfo know them.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from embed_foundry.cpus import (
    KERNEL_FLAGS,
    PERIOD_V1,
    QUOTA_V1,
    QUOTA_V2,
    affinity_cpus,
    control_group_mounts,
    cpu_groups,
    is_crowded,
    quota_cpus,
    read_text,
)

from stages.common.records.latency import HostLoad
from stages.common.records.machine import Machine

GIB = 1 << 30
# Fields of psutil.cpu_times that count as work; on Linux "user" includes guests.
BUSY = ("user", "nice", "system", "irq", "softirq")
# The file of a control group's CPU controller that counts throttling, in versions 1 and 2.
STAT = "cpu.stat"


@dataclass(frozen=True)
class Controller:
    """A mounted control-group hierarchy in which limits can be set.

    Attributes:
        root: the folder in which a group is made.
        version: of control groups, 1 or 2.
    """

    root: Path
    version: int

    def quota_files(self, quota_us: int, period_us: int) -> dict[str, str]:
        """Return file name -> content that give a new group `quota_us` of CPU time in every `period_us`."""
        if self.version == 1:
            return {PERIOD_V1: str(period_us), QUOTA_V1: str(quota_us)}
        return {QUOTA_V2: f"{quota_us} {period_us}"}

    def memory_files(self, most: int) -> dict[str, str]:
        """Return file name -> content that give a new group `most` bytes of memory, and no swap space in version 2."""
        if self.version == 1:
            return {"memory.limit_in_bytes": str(most)}
        return {"memory.max": str(most), "memory.swap.max": "0"}


def fingerprint_machine() -> Machine:
    """Return what identifies this machine to a measurement; takes about 1 s the first time."""
    import psutil

    name, flags = _read_cpu()
    return Machine(
        cpu=name,
        arch=platform.machine(),
        flags=list(flags),
        cpus=affinity_cpus(),
        cores=psutil.cpu_count(logical=False),
        quota_cpus=quota_cpus(cpu_groups()),
        memory_gib=round(psutil.virtual_memory().total / GIB),
        os=platform.system(),
    )


@cache
def _read_cpu() -> tuple[str, tuple[str, ...]]:
    """Return the CPU's name and which KERNEL_FLAGS it has, sorted. py-cpuinfo counts the CPU's ticks for a second."""
    from cpuinfo import get_cpu_info

    info = get_cpu_info()
    # Systems and CPUID spell flags with and without "_".
    present = {flag.replace("_", "") for flag in info.get("flags", [])}
    name = info.get("brand_raw") or platform.processor() or "unknown"
    return name, tuple(sorted(flag for flag in KERNEL_FLAGS if flag.replace("_", "") in present))


def watch_load(threads: int) -> Callable[[], HostLoad]:
    """Start watching the machine; the returned function tells what else went on since then.

    Args:
        threads: how many threads are measured meanwhile; they decide whether the machine is crowded.
    """
    import psutil

    groups, load = cpu_groups(), psutil.getloadavg()[0]
    throttled, before, own, start = read_throttled_s(groups), psutil.cpu_times(), _own_cpu_s(), time.monotonic()

    def read_load() -> HostLoad:
        now = psutil.cpu_times()
        spent = {name: getattr(now, name) - getattr(before, name) for name in now._fields}
        others = sum(spent.get(name, 0.0) for name in BUSY) - (_own_cpu_s() - own)
        others_cpus = round(max(0.0, others / (time.monotonic() - start)), 2)
        return HostLoad(
            load_before=round(load, 2),
            load_after=round(psutil.getloadavg()[0], 2),
            others_cpus=others_cpus,
            throttled_s=None if throttled is None else round((read_throttled_s(groups) or 0.0) - throttled, 3),
            steal_s=round(spent["steal"], 2) if "steal" in spent else None,
            crowded=is_crowded(others_cpus, threads),
        )

    return read_load


def read_throttled_s(groups: Sequence[Path]) -> float | None:
    """Return how many seconds the quotas of these control groups have held them back so far.

    Args:
        groups: folders of control groups.

    Returns:
        the sum; None if no group counts it.
    """
    seconds = []
    for group in groups:
        stat = dict(line.split() for line in (read_text(group / STAT) or "").splitlines())
        if "throttled_usec" in stat:  # version 2
            seconds.append(int(stat["throttled_usec"]) / 1e6)
        elif "throttled_time" in stat:  # version 1, nanoseconds
            seconds.append(int(stat["throttled_time"]) / 1e9)
    return sum(seconds) if seconds else None


def list_controllers(name: str) -> list[Controller]:
    """Return the control-group hierarchies with a controller ("cpu", "memory"); in version 2 the root delegates it."""
    return [
        Controller(root, version)
        for root, version in control_group_mounts(name)
        if version == 1 or name in (read_text(root / "cgroup.subtree_control") or "").split()
    ]


def _own_cpu_s() -> float:
    """Return the CPU seconds of this process and of those of its children that have ended."""
    return sum(os.times()[:4])
