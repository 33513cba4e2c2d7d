"""How many threads pay off here: the CPUs this process may run on, and the quota of its container."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

QUOTA_V2, QUOTA_V1, PERIOD_V1 = "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"


def available_cpus() -> int:
    """Return how many CPUs this process may use, its affinity mask and CPU quota respected, at least 1.

    More threads than the quota only make it stand still for longer: two of them under half a CPU use up the 50 ms of a
    period in 25 ms, and stand still for the other 75.
    """
    quota = quota_cpus(cpu_groups())
    return affinity_cpus() if quota is None else max(1, min(affinity_cpus(), math.ceil(quota)))


def affinity_cpus() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota_cpus(groups: list[Path]) -> float | None:
    """Return the least CPU quota of the given control groups, in CPUs (1.5 is 150 ms each 100 ms); None if unlimited.

    Args:
        groups: cgroup folders of version 1 or 2; files that are missing there say nothing.
    """
    limits = []
    for group in groups:
        if (limit := text(group / QUOTA_V2)) is not None:
            quota, _, period = limit.partition(" ")
        else:
            quota, period = text(group / QUOTA_V1) or "-1", text(group / PERIOD_V1) or "100000"
        if quota not in ("max", "-1"):
            limits.append(int(quota) / int(period))
    return round(min(limits), 3) if limits else None


def cpu_groups() -> list[Path]:
    """Return this process's cgroup folders that may hold CPU limits: its own and its ancestors', of both versions."""
    return groups("cpu")


def groups(controller: str) -> list[Path]:
    """Return this process's cgroup folders that may hold a controller's ("cpu", "memory") limits."""
    paths: dict[str, str] = {}  # controllers -> path in the hierarchy; "" is version 2
    for line in (text(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    folders: list[Path] = []
    for mount, version in mounts(controller):
        mine = paths.get("" if version == 2 else controller)
        folders += [] if mine is None else _up(mount, mine)
    return list(dict.fromkeys(folders))


def cpu_mounts() -> list[tuple[Path, int]]:
    """Return where control groups for CPU time are mounted, each with its version (1 or 2)."""
    return mounts("cpu")


def mounts(controller: str) -> list[tuple[Path, int]]:
    """Return where control groups with a controller are mounted, each with its version (1 or 2)."""
    found = []
    for line in (text(Path("/proc/self/mounts")) or "").splitlines():
        _, mount, kind, options, *_ = line.split(" ")
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            found.append((Path(mount), 2 if kind == "cgroup2" else 1))
    return found


def _up(mount: Path, path: str) -> Iterator[Path]:
    """Yield mount/path and its parents up to the mount; inside a container the path may exist on the host only."""
    here = mount / path.strip("/")
    for folder in (here, *here.parents):
        if folder.is_dir():
            yield folder
        if folder == mount:
            return


def text(path: Path) -> str | None:
    """Return a small file's stripped text; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
