"""What a host offers to a variant: its CPU, memory, devices, installed libraries, and whether Railway runs it."""

import importlib.util
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import cpus
from .encoders.kinds import KINDS
from .instruction_sets import read_instruction_sets

MIB = 1 << 20
# An unlimited cgroup of version 1 shows the largest page-aligned number; no real memory comes near.
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
        memory_mb: what this process may use, in MiB: the least of its cgroups' limits and the machine's memory; None
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
    def detect(cls) -> "Environment":
        """Return this process's environment: all of it on Linux; elsewhere what cannot be read is None."""
        arch = MACHINES.get(platform.machine(), platform.machine())
        return cls(
            arch=arch,
            flags=read_instruction_sets(arch),
            memory_mb=_least(_physical_mb(), read_memory_limit_mb(cpus.control_groups("memory"))),
            libraries=frozenset(kind.name for kind in KINDS.values() if _is_installed(kind.module)),
            railway=os.environ.get(RAILWAY, ""),
            cuda=_has_cuda(os.environ),
        )

    def describe(self) -> str:
        """Return the environment as one line."""
        memory = "unknown memory" if self.memory_mb is None else f"{self.memory_mb} MB of memory"
        parts = [self.arch, memory, "CUDA" if self.cuda else "no CUDA"]
        parts += [f"Railway {self.railway}"] if self.railway else []
        return ", ".join([*parts, f"libraries for {' '.join(sorted(self.libraries)) or 'no kind of variant'}"])


def read_memory_limit_mb(groups: list[Path]) -> int | None:
    """Return the least memory limit of the given control groups in MiB; None if unlimited.

    Args:
        groups: cgroup folders of version 2 (memory.max) or 1 (memory.limit_in_bytes).
    """
    texts = [cpus.read_text(group / name) for group in groups for name in ("memory.max", "memory.limit_in_bytes")]
    limit = min((int(text) for text in texts if text and text != "max"), default=UNLIMITED)
    return limit // MIB if limit < UNLIMITED else None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook refuses it
        return False


def _physical_mb() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    except (AttributeError, ValueError, OSError):  # Windows; systems without these names
        return None


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _has_cuda(environ: Mapping[str, str]) -> bool:
    """Return whether an NVIDIA driver is loaded and CUDA_VISIBLE_DEVICES does not hide its devices."""
    return NVIDIA_DRIVER.exists() and environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")
