"""How many threads pay off: the CPUs this process may run on, and the quota of its container."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

# Instruction sets that decide which kernels the encoders' libraries use, as Linux names them.
KERNEL_FLAGS = (
    *("avx", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "fma"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16", "sme"),
)
# Share of the measured threads' CPUs that other processes may take before times mislead.
CROWDED = 0.1
QUOTA_V2, QUOTA_V1, PERIOD_V1 = "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"


def available_cpus() -> int:
    """Return how many CPUs this process may use, by its affinity mask and CPU quota; at least 1.

    More threads than the quota allows only wait longer: two threads under half a CPU use up a period's 50 ms in 25 ms,
    then stand still for 75.
    """
    quota = quota_cpus(cpu_groups())
    return affinity_cpus() if quota is None else max(1, min(affinity_cpus(), math.ceil(quota)))


def affinity_cpus() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_crowded(others_cpus: float, threads: int) -> bool:
    """Return whether other processes took CPUs that the measured threads needed.

    Threads that wait for each other suffer out of proportion: with one busy process beside it on two CPUs, torch took
    300 ms for what takes 12.

    Args:
        others_cpus: CPUs that other processes kept busy, on average.
        threads: how many threads were measured.
    """
    spare = max(0, (os.cpu_count() or threads) - threads)
    return others_cpus > spare + CROWDED * threads


def quota_cpus(groups: list[Path]) -> float | None:
    """Return the least CPU quota of the given control groups, in CPUs (1.5 is 150 ms each 100 ms); None if unlimited.

    Args:
        groups: cgroup folders of version 1 or 2; a missing file sets no limit.
    """
    limits = []
    for group in groups:
        if (limit := read_text(group / QUOTA_V2)) is not None:
            quota, _, period = limit.partition(" ")
        else:
            quota, period = read_text(group / QUOTA_V1) or "-1", read_text(group / PERIOD_V1) or "100000"
        if quota not in ("max", "-1"):
            limits.append(int(quota) / int(period))
    return round(min(limits), 3) if limits else None


def cpu_groups() -> list[Path]:
    """Return this process's cgroup folders that may hold CPU limits: its own and its ancestors', of both versions."""
    return control_groups("cpu")


def control_groups(controller: str) -> list[Path]:
    """Return this process's cgroup folders that may hold a controller's ("cpu", "memory") limits."""
    paths: dict[str, str] = {}  # controllers -> path in the hierarchy; "" is version 2
    for line in (read_text(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    folders: list[Path] = []
    for mount, version in control_group_mounts(controller):
        path_in_mount = paths.get("" if version == 2 else controller)
        folders += [] if path_in_mount is None else _walk_up(mount, path_in_mount)
    return list(dict.fromkeys(folders))


def control_group_mounts(controller: str) -> list[tuple[Path, int]]:
    """Return where control groups with a controller are mounted, each with its version (1 or 2)."""
    mounts = []
    for line in (read_text(Path("/proc/self/mounts")) or "").splitlines():
        _, mount, filesystem, options, *_ = line.split(" ")
        if filesystem == "cgroup2" or (filesystem == "cgroup" and controller in options.split(",")):
            mounts.append((Path(mount), 2 if filesystem == "cgroup2" else 1))
    return mounts


def _walk_up(mount: Path, path: str) -> Iterator[Path]:
    """Yield mount/path and its parents up to the mount; in a container some may exist only on the host."""
    lowest = mount / path.strip("/")
    for folder in (lowest, *lowest.parents):
        if folder.is_dir():
            yield folder
        if folder == mount:
            return


def read_text(path: Path) -> str | None:
    """Return a file's text, stripped; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
