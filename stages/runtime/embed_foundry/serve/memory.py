"""How much memory this process may use, and how much is in use."""

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import cpus
from ..environment import UNLIMITED

MIB = 1 << 20
# Requirements of small devices: up to so much memory, so many models at once, and unloading after so long.
HIGH, CRITICAL = 0.75, 0.90


@dataclass(frozen=True)
class Tier:
    """What a host of some memory keeps.

    Attributes:
        most_mb: up to which memory, in MiB.
        models: variants at once.
        idle_s: seconds after which an unused one is unloaded; 0 means never.
    """

    most_mb: float
    models: int
    idle_s: float


TIERS = (
    Tier(2048, 1, 60.0),
    Tier(4096, 2, 300.0),
    Tier(8192, 3, 600.0),
    Tier(float("inf"), 5, 0.0),
)


def tier_of(memory_mb: int | None) -> Tier:
    """Return the tier of a host; unknown memory counts as the largest."""
    return TIERS[-1] if memory_mb is None else next(tier for tier in TIERS if memory_mb <= tier.most_mb)


def read_pressure() -> float:
    """Return the part of the memory that is in use, from 0 to 1: the highest of the cgroups' and the machine's.

    A cgroup's page cache that can be dropped does not count, as in Kubernetes' working set. 0 where it cannot be read.
    """
    shares = [_read_machine()]
    for group in cpus.control_groups("memory"):
        for usage, limit in (("memory.current", "memory.max"), ("memory.usage_in_bytes", "memory.limit_in_bytes")):
            used, most = cpus.read_text(group / usage), cpus.read_text(group / limit)
            if used and most and most != "max" and int(most) < UNLIMITED:
                shares.append((int(used) - _read_inactive(group)) / int(most))
    return max(shares)


def read_rss_mb() -> float:
    """Return this process's resident memory in MiB; 0 where it cannot be read."""
    fields = (cpus.read_text(Path("/proc/self/statm")) or "0 0").split()
    return int(fields[1]) * 4096 / MIB


def trim() -> None:
    """Give what was freed back to the system, where the C library can: glibc keeps it otherwise."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # musl
            return


def _read_inactive(group: Path) -> int:
    for line in (cpus.read_text(group / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _read_machine() -> float:
    values = {}
    for line in (cpus.read_text(Path("/proc/meminfo")) or "").splitlines():
        name, _, value = line.partition(":")
        values[name] = int(value.split()[0])
    if not values.get("MemTotal") or "MemAvailable" not in values:
        return 0.0
    return 1 - values["MemAvailable"] / values["MemTotal"]
