"""A certificate as a typed record, and as an in-toto statement about a release's manifest."""

import math
from dataclasses import asdict, dataclass, field

from .. import signature
from ..errors import IntegrityError, one_line, printable
from ..manifest import JsonObject

PREDICATE = "urn:embed-foundry:certificate:1"
SUBJECT = "manifest.json"


@dataclass(frozen=True)
class Host:
    """The host that measured.

    Attributes:
        cpu: the CPU's name; "" where it cannot be read.
        arch: "x86_64", "aarch64", …
        system: "Linux", "Darwin", "Windows".
        flags: instruction sets that decide which kernels encoders use, sorted; None where they cannot be read.
        cpus: CPUs that the process might use, by affinity and quota.
        memory_mb: memory that it might use, in MiB; None where it cannot be read.
        railway: the name of the Railway environment; "" elsewhere.
        libraries: distribution -> version, of those that can change a vector or its time.
        others_cpus: CPUs that other processes kept busy meanwhile; None where it cannot be read.
        crowded: whether they took CPUs that the measured threads needed, so that times mislead.
    """

    cpu: str
    arch: str
    system: str
    flags: list[str] | None
    cpus: int
    memory_mb: int | None
    railway: str
    libraries: dict[str, str]
    others_cpus: float | None
    crowded: bool


@dataclass(frozen=True)
class Times:
    """One kind of call.

    Attributes:
        tokens: length of each text.
        batch: texts a call.
        n: timed calls.
        median_ms, low_ms, high_ms: median milliseconds of a call, and its 95 % interval.
        p95_ms: the 95th percentile; None below 59 calls.
    """

    tokens: int
    batch: int
    n: int
    median_ms: float
    low_ms: float
    high_ms: float
    p95_ms: float | None


@dataclass(frozen=True)
class VariantResult:
    """What one variant did.

    Attributes:
        faults: why it does not pass: its self-test, or limits of the target that it misses here.
        cosine: the least of a probe's vector to the one at release; None if the self-test failed.
        identical: whether the probes' vectors have the same bytes as at release.
        providers: what computed.
        cold_start_s: median seconds from a process's start to its first vector.
        peak_rss_mb: peak memory of its process, in 10^6 bytes.
        times: of all kinds of calls.
    """

    faults: list[str]
    cosine: float | None = None
    identical: bool = False
    providers: list[str] = field(default_factory=list)
    cold_start_s: float | None = None
    peak_rss_mb: float | None = None
    times: list[Times] = field(default_factory=list)


@dataclass(frozen=True)
class Certificate:
    """What a release does on a host.

    Attributes:
        digest: the release's.
        issued: the day, as 2026-11-28, in UTC.
        host: where.
        threads: CPU threads of a call.
        opened: the variant that a runtime opens there.
        variants: name -> what it did, of those that can run there.
        skipped: name -> why it cannot.
    """

    digest: str
    issued: str
    host: Host
    threads: int
    opened: str
    variants: dict[str, VariantResult]
    skipped: dict[str, str]

    @property
    def passes(self) -> bool:
        """Whether every variant that can run there passed."""
        return not any(result.faults for result in self.variants.values())

    def to_statement(self, manifest_sha256: str) -> JsonObject:
        """Return the in-toto statement about a release's manifest, which lists the SHA-256 of every other file."""
        return {
            "_type": signature.STATEMENT,
            "subject": signature.build_subject({SUBJECT: manifest_sha256}),
            "predicateType": PREDICATE,
            "predicate": asdict(self) | {"result": "PASSED" if self.passes else "FAILED"},
        }

    @classmethod
    def parse(cls, statement: JsonObject, digest: str, manifest_sha256: str) -> "Certificate":
        """Return the certificate of a statement.

        Args:
            statement: any JSON value.
            digest: the release's that it must be about.
            manifest_sha256: of its manifest.

        Raises:
            IntegrityError: it is no certificate, or is about another release.
        """
        try:
            if statement["predicateType"] != PREDICATE:
                raise ValueError(f"its predicate is {statement['predicateType']!a:.60}")
            about = signature.read_subject(statement)
            raw = statement["predicate"]
            certificate = cls(
                digest=_text(raw["digest"]),
                issued=_text(raw["issued"]),
                host=_parse_host(raw["host"]),
                threads=int(raw["threads"]),
                opened=_text(raw["opened"]),
                variants={_text(name): _parse_result(entry) for name, entry in raw["variants"].items()},
                skipped={_text(name): _text(why) for name, why in raw["skipped"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise IntegrityError(f"it is no certificate of this version ({type(error).__name__} {error})") from None
        if about != {SUBJECT: manifest_sha256} or certificate.digest != digest:
            raise IntegrityError("it is about another release")
        return certificate


def _parse_host(raw: JsonObject) -> Host:
    return Host(
        cpu=_text(raw["cpu"]),
        arch=_text(raw["arch"]),
        system=_text(raw["system"]),
        flags=None if raw["flags"] is None else [_text(flag) for flag in raw["flags"]],
        cpus=int(raw["cpus"]),
        memory_mb=None if raw["memory_mb"] is None else int(raw["memory_mb"]),
        railway=_text(raw["railway"]),
        libraries={_text(name): _text(version) for name, version in raw["libraries"].items()},
        others_cpus=_optional(raw["others_cpus"]),
        crowded=raw["crowded"] is True,
    )


def _parse_result(raw: JsonObject) -> VariantResult:
    return VariantResult(
        faults=[_text(fault) for fault in raw["faults"]],
        cosine=_optional(raw["cosine"]),
        identical=raw["identical"] is True,
        providers=[_text(provider) for provider in raw["providers"]],
        cold_start_s=_optional(raw["cold_start_s"]),
        peak_rss_mb=_optional(raw["peak_rss_mb"]),
        times=[_parse_times(times) for times in raw["times"]],
    )


def _parse_times(raw: JsonObject) -> Times:
    return Times(
        tokens=int(raw["tokens"]),
        batch=int(raw["batch"]),
        n=int(raw["n"]),
        median_ms=_time(raw["median_ms"]),
        low_ms=_time(raw["low_ms"]),
        high_ms=_time(raw["high_ms"]),
        p95_ms=None if raw["p95_ms"] is None else _time(raw["p95_ms"]),
    )


def _text(value: str) -> str:
    """Return a text as it may be shown: anybody can write a certificate."""
    if not isinstance(value, str):
        raise TypeError(f"{value!a:.60} is no text")
    return printable(one_line(value))


def _time(value: float) -> float:
    if not 0 < float(value) < math.inf:
        raise ValueError(f"{value!a:.60} is no time")
    return float(value)


def _optional(value: float | None) -> float | None:
    if value is not None and not math.isfinite(float(value)):
        raise ValueError(f"{value!a:.60} is no figure")
    return None if value is None else float(value)
