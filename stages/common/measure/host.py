"""This machine: what identifies it for measurements, and what it did while one ran.

Linux in full; other systems as far as psutil and py-cpuinfo know them.
"""

import hashlib
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embed_foundry import manifest
from embed_foundry.cpus import (
    PERIOD_V1,
    QUOTA_V1,
    QUOTA_V2,
    affinity_cpus,
    cpu_groups,
    cpu_mounts,
    quota_cpus,
    read_text,
)

GIB = 1 << 30
# Instruction sets that change which kernels the encoders' libraries take, by Linux' names.
FLAGS = (
    *("avx", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "fma"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16", "sme"),
)
# Share of the measured threads' CPUs that others may take before figures suffer.
CROWDED = 0.1
# Kinds of CPU time that count as work; Linux counts guests' time in user's.
BUSY = ("user", "nice", "system", "irq", "softirq")
# Files of a cgroup CPU controller: version 2, version 1.
STAT = "cpu.stat"


def fingerprint() -> dict[str, Any]:
    """Return what identifies this machine to a measurement: JSON values, no name, no clock; about 1 s.

    Keys: cpu (brand), arch, flags (of FLAGS), cpus (this process may use), cores (physical, None if unknown),
    quota_cpus (CPU time a second that the cgroup grants, None if unlimited), memory_gib (whole GiB), os.
    """
    import psutil
    from cpuinfo import get_cpu_info

    info = get_cpu_info()
    present = {flag.replace("_", "") for flag in info.get("flags", [])}  # spelt with and without "_" by OS and CPUID
    return {
        "cpu": info.get("brand_raw") or platform.processor() or "unknown",
        "arch": platform.machine(),
        "flags": sorted(flag for flag in FLAGS if flag.replace("_", "") in present),
        "cpus": affinity_cpus(),
        "cores": psutil.cpu_count(logical=False),
        "quota_cpus": quota_cpus(cpu_groups()),
        "memory_gib": round(psutil.virtual_memory().total / GIB),
        "os": platform.system(),
    }


def digest(machine: dict[str, Any]) -> str:
    """Return the hex SHA-256 of a fingerprint's canonical JSON."""
    return hashlib.sha256(manifest.canonical(machine)).hexdigest()


def watch() -> Callable[[], dict[str, float]]:
    """Start watching the machine; the returned function says what happened since.

    Its keys: load_before and load_after (1-minute load averages); others_cpus (CPUs that processes other than this one
    and its ended children kept busy, on average); throttled_s (seconds that this process's cgroup stood still for its
    quota) and steal_s (CPU seconds that a hypervisor gave to other guests), each only where it can be read.
    """
    import psutil

    groups, load = cpu_groups(), psutil.getloadavg()[0]
    throttled, before, mine, start = throttled_s(groups), psutil.cpu_times(), _own_s(), time.monotonic()

    def since() -> dict[str, float]:
        now = psutil.cpu_times()
        spent = {name: getattr(now, name) - getattr(before, name) for name in now._fields}
        busy = sum(spent.get(name, 0.0) for name in BUSY) - (_own_s() - mine)
        seen = {
            "load_before": round(load, 2),
            "load_after": round(psutil.getloadavg()[0], 2),
            "others_cpus": round(max(0.0, busy / (time.monotonic() - start)), 2),
        }
        if throttled is not None:
            seen["throttled_s"] = round((throttled_s(groups) or 0.0) - throttled, 3)
        if "steal" in spent:
            seen["steal_s"] = round(spent["steal"], 2)
        return seen

    return since


def crowded(seen: dict[str, float], threads: int) -> bool:
    """Return whether other processes took CPUs that `threads` needed, by what `watch` saw.

    Threads that wait for each other suffer out of proportion: with one busy process beside it on two CPUs, torch took
    300 ms for what takes 12.
    """
    import psutil

    spare = max(0, (psutil.cpu_count() or threads) - threads)
    return seen["others_cpus"] > spare + CROWDED * threads


def throttled_s(groups: list[Path]) -> float | None:
    """Return how long the given cgroup folders were held back by their quotas so far; None if none of them says."""
    seconds = []
    for group in groups:
        stat = dict(line.split() for line in (read_text(group / STAT) or "").splitlines())
        if "throttled_usec" in stat:  # version 2
            seconds.append(int(stat["throttled_usec"]) / 1e6)
        elif "throttled_time" in stat:  # version 1, nanoseconds
            seconds.append(int(stat["throttled_time"]) / 1e9)
    return sum(seconds) if seconds else None


def cpu_controllers() -> list[tuple[Path, Callable[[int, int], dict[str, str]]]]:
    """Return the roots under which CPU quotas can be set, with a function that gives the files of one.

    The function takes quota and period in microseconds and returns file name -> content, for a new folder in the root.
    """
    found: list[tuple[Path, Callable[[int, int], dict[str, str]]]] = []
    for root, version in cpu_mounts():
        if version == 1:
            found.append((root, lambda quota, period: {PERIOD_V1: str(period), QUOTA_V1: str(quota)}))
        elif "cpu" in (read_text(root / "cgroup.subtree_control") or "").split():
            found.append((root, lambda quota, period: {QUOTA_V2: f"{quota} {period}"}))
    return found


def _own_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])
