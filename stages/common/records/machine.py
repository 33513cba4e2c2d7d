"""machine.json: what identifies a machine to a measurement."""

import hashlib
from typing import ClassVar

from pydantic import ConfigDict

from stages.common.records.base import Record


class Machine(Record):
    """A machine's fingerprint; it holds no host name and no clock.

    Attributes:
        cpu: the CPU's brand.
        arch: "x86_64", "aarch64", …
        flags: instruction sets that decide which kernels encoders use, as Linux names them, sorted.
        cpus: logical CPUs that this process may use.
        cores: physical cores; None if unknown.
        quota_cpus: CPU seconds a second that the control group grants; None if unlimited.
        memory_gib: whole GiB.
        os: the operating system's name, e.g. "Linux".
    """

    # No conversions: a number in quotes is not what the stage writes.
    model_config = ConfigDict(strict=True)

    FILE: ClassVar[str] = "machine.json"
    stage: ClassVar[str] = "machine"
    cpu: str
    arch: str
    flags: list[str]
    cpus: int
    cores: int | None
    quota_cpus: float | None
    memory_gib: int
    os: str

    @property
    def digest(self) -> str:
        """Return the hex SHA-256 of the fingerprint's canonical JSON."""
        return hashlib.sha256(self.dump()).hexdigest()
