"""What a host offers to a variant: its CPU, memory, devices, installed libraries, and whether Railway runs it."""

import importlib.util
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import cpus
from .kinds import KINDS

MIB = 1 << 20
# A version 1 cgroup without a limit says the largest page-aligned number; nothing real comes near.
UNLIMITED = 1 << 60
RAILWAY = "RAILWAY_ENVIRONMENT"
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
MACHINES = {"AMD64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Environment:
    """A host, as far as the choice of a variant depends on it.

    Attributes:
        arch: "x86_64", "aarch64", …
        flags: the CPU's instruction sets by Linux' names; None where they cannot be read, which excludes nothing.
        memory_mb: what this process may take, in MiB: the least of its cgroups' limits and the machine's memory; None
            where neither can be read.
        libraries: kinds of variants whose library is installed, keys of KINDS.
        railway: the name of the Railway environment ("production"), "" elsewhere.
        cuda: whether a CUDA device may be used.
    """

    arch: str
    flags: frozenset[str] | None
    memory_mb: int | None
    libraries: frozenset[str]
    railway: str = ""
    cuda: bool = False

    @classmethod
    def here(cls) -> "Environment":
        """Return this process's environment. Linux in full; elsewhere what cannot be read is None."""
        arch = platform.machine()
        return cls(
            arch=MACHINES.get(arch, arch),
            flags=_flags(cpus.read_text(Path("/proc/cpuinfo"))),
            memory_mb=_least(_physical_mb(), limit_mb(cpus.control_groups("memory"))),
            libraries=frozenset(kind.name for kind in KINDS.values() if _installed(kind.module)),
            railway=os.environ.get(RAILWAY, ""),
            cuda=_cuda(os.environ),
        )

    def words(self) -> str:
        """Describe the environment in one line."""
        memory = "memory unknown" if self.memory_mb is None else f"{self.memory_mb} MB"
        parts = [self.arch, memory, "CUDA" if self.cuda else "no CUDA"]
        parts += [f"Railway {self.railway}"] if self.railway else []
        return ", ".join([*parts, f"libraries for {' '.join(sorted(self.libraries)) or 'nothing'}"])


def limit_mb(groups: list[Path]) -> int | None:
    """Return the least memory limit of the given control groups in MiB; None if unlimited.

    Args:
        groups: cgroup folders of version 2 (memory.max) or 1 (memory.limit_in_bytes).
    """
    limits = [cpus.read_text(group / name) for group in groups for name in ("memory.max", "memory.limit_in_bytes")]
    found = [int(limit) for limit in limits if limit and limit != "max"]
    return min(found) // MIB if found and min(found) < UNLIMITED else None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # somebody forbids the import
        return False


def _physical_mb() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    except (AttributeError, ValueError, OSError):  # Windows; systems that lack the name
        return None


def _least(*values: int | None) -> int | None:
    known = [value for value in values if value is not None]
    return min(known) if known else None


def _flags(cpuinfo: str | None) -> frozenset[str] | None:
    """Return the instruction sets of the first CPU in /proc/cpuinfo: "flags" on x86, "Features" on ARM."""
    for line in (cpuinfo or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return None


def _cuda(environ: Mapping[str, str]) -> bool:
    """Return whether an NVIDIA driver is loaded and its devices are not hidden by CUDA_VISIBLE_DEVICES."""
    return NVIDIA_DRIVER.exists() and environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")
