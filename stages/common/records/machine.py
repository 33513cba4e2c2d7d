"""machine.json: what identifies a machine to a measurement."""

from typing import ClassVar

from stages.common.records.base import Record


class Machine(Record):
    """A machine's fingerprint: no name, no clock.

    Attributes:
        cpu: the CPU's brand.
        arch: "x86_64", "aarch64", …
        flags: instruction sets that change which kernels encoders take, sorted.
        cpus: logical CPUs that this process may use.
        cores: physical cores; None if unknown.
        quota_cpus: CPU seconds a second that the control group grants; None if unlimited.
        memory_gib: whole GiB.
        os: the system's name.
    """

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
