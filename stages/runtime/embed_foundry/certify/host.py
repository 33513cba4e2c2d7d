"""This host as a certificate names it, and how near another host is to it."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .. import cpus
from ..encoders.kinds import DISTRIBUTIONS
from ..environment import Environment
from ..instruction_sets import is_emulated
from .certificate import Host

# Fields of /proc/stat's first line that are work: user, nice, system, irq, softirq; in 1/100 s, as Linux fixes it for
# programs (proc(5): USER_HZ).
BUSY, HZ = (1, 2, 3, 6, 7), 100


def describe(environment: Environment, threads: int, others_cpus: float | None) -> Host:
    """Return this process's host.

    Args:
        environment: as detected.
        threads: CPU threads of a measured call.
        others_cpus: what else went on while it measured.
    """
    return Host(
        cpu=_read_cpu_name(environment.arch),
        arch=environment.arch,
        system=platform.system(),
        flags=list_kernel_flags(environment),
        cpus=cpus.available_cpus(),
        memory_mb=environment.memory_mb,
        railway=environment.railway,
        libraries=_list_libraries(),
        others_cpus=others_cpus,
        crowded=others_cpus is not None and cpus.is_crowded(others_cpus, threads),
    )


def list_kernel_flags(environment: Environment) -> list[str] | None:
    """Return the instruction sets of an environment that decide which kernels encoders use, sorted; None if unknown."""
    return None if environment.flags is None else sorted(environment.flags & frozenset(cpus.KERNEL_FLAGS))


def distance(host: Host, environment: Environment) -> int | None:
    """Return in how many instruction sets a certificate's host differs from an environment; None: another architecture.

    0 is the same kind of host, as far as both are known.
    """
    if host.arch != environment.arch:
        return None
    own = list_kernel_flags(environment)
    return 0 if own is None or host.flags is None else len(set(own) ^ set(host.flags))


def watch_others() -> Callable[[], float | None]:
    """Start watching; the returned function tells how many CPUs other processes kept busy since, None if unknown."""
    start, before = time.monotonic(), _read_others_s()

    def read() -> float | None:
        now = _read_others_s()
        return None if before is None or now is None else round(max(0.0, now - before) / (time.monotonic() - start), 2)

    return read


def _read_others_s() -> float | None:
    """Return the CPU seconds of all processes but this one and its children that have ended."""
    fields = (cpus.read_text(Path("/proc/stat")) or "").partition("\n")[0].split()
    if len(fields) <= max(BUSY):
        return None
    return sum(int(fields[index]) for index in BUSY) / HZ - sum(os.times()[:4])


def _read_cpu_name(arch: str) -> str:
    """Return the CPU's name; on ARM, where Linux has none, its implementer and part."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    names: dict[str, str] = {}
    for line in (cpus.read_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        names.setdefault(key.strip(), value.strip())
    part = f"{names.get('CPU implementer', '')} {names.get('CPU part', '')}".strip()
    name = names.get("model name") or (f"ARM {part}" if part else platform.processor())
    return f"{arch} emulated on {name}" if is_emulated(arch) else name


def _list_libraries() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in sorted(DISTRIBUTIONS):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
