"""bundle.json as a contract: its version, what a runtime reads from it, and what must agree with the rest of a bundle.

bundle.schema.json, in this package and in every bundle, is the whole contract as JSON Schema; the build validates
against it.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import manifest
from .encoders.providers import CPU
from .errors import IntegrityError
from .manifest import JsonObject

NAME = "bundle.json"
SCHEMA = 2
SCHEMA_FILE = "bundle.schema.json"
# Names of models, targets and variants; they become parts of paths.
NAMES = re.compile(r"\w[\w.-]*")
# What a user of the bundle runs or must distribute with it. The rest is evidence: measured, other in every build.
CONTENT = (
    *("variants/", "probes/", "runtime/", "browser/", "licenses/", "LICENSE", "NOTICE", "android.json"),
    *("config.json", "tokenizer.json", "tokenizer_config.json"),  # of bundles for browsers
)
VERDICT, CATALOG, BOM = "evidence/verdict.json", "evidence/catalog", "bom.cdx.json"
REFUSAL = "Do not use this bundle."


@dataclass(frozen=True)
class ShippedVariant:
    """What the contract says of one shipped variant.

    Attributes:
        kind: the encoder that runs it, a key of `kinds.KINDS`.
        digest: of its folder's manifest.
        bits: width of its weights.
        space_id: the vector space, as confirmed by mixed indexes.
        device: "cpu" or "cuda".
        cpu_any: architecture -> instruction sets of which the CPU needs one; absent where any CPU will do.
        size_mb: of its files, in 10^6 bytes.
        peak_rss_mb: measured peak memory of a process, in 10^6 bytes; None if it was not measured.
        speedup: tokens -> measured speed-up over the baseline.
        retention: task -> its score over the baseline's.
        checks: every limit that it was judged by, as in verdict.json.
    """

    kind: str
    digest: str
    bits: int
    space_id: str
    device: str
    cpu_any: dict[str, frozenset[str]]
    size_mb: float
    peak_rss_mb: float | None
    speedup: dict[int, float]
    retention: dict[str, float]
    checks: list[JsonObject]

    @classmethod
    def parse(cls, raw: JsonObject) -> "ShippedVariant":
        """Return one entry of `variants`; a missing key raises KeyError, a wrong type TypeError or ValueError."""
        measured = raw["measured"]
        peak_rss_mb = measured["peak_rss_mb"]
        return cls(
            kind=str(raw["kind"]),
            digest=str(raw["digest"]),
            bits=int(raw["bits"]),
            space_id=str(raw["space_id"]),
            device=str(raw["device"]),
            cpu_any={str(arch): frozenset(flags) for arch, flags in raw["cpu_any"].items()},
            size_mb=float(raw["size_mb"]),
            peak_rss_mb=None if peak_rss_mb is None else float(peak_rss_mb),
            speedup={int(tokens): float(ratio) for tokens, ratio in measured["speedup"].items()},
            retention={
                str(task): float(score["of_baseline"])
                for task, score in measured["quality"].items()
                if "of_baseline" in score
            },
            checks=list(raw["checks"]),
        )


@dataclass(frozen=True)
class Contract:
    """What a runtime reads from bundle.json.

    Attributes:
        model: the base model's name.
        target: the target's name.
        content: digest of the files that a user runs or distributes.
        order: names of the shipped variants in the order in which the target wants them tried.
        variants: the same names -> what is said of them.
        cpu: brand of the CPU that latency was measured on; "" if it was not recorded.
        cpu_flags: its instruction sets.
        providers: execution providers in the order in which they are tried, keys of `providers.PROVIDERS`.
        uncertified: how the measuring machine differs from the target's kind of host; empty if it does not.
    """

    model: str
    target: str
    content: str
    order: tuple[str, ...]
    variants: dict[str, ShippedVariant]
    cpu: str = ""
    cpu_flags: frozenset[str] = frozenset()
    providers: tuple[str, ...] = CPU
    uncertified: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> "Contract":
        """Read a bundle's bundle.json.

        Raises:
            IntegrityError: missing, of another version, or not what the contract says.
        """
        path = folder / NAME
        raw = manifest.read_object(path, "Do not open it: this is not a release bundle.")
        schema = raw.get("schema")
        if schema != SCHEMA:
            raise IntegrityError(
                f"{path}: has schema {schema!a:.60}, this runtime reads {SCHEMA}. "
                "Install the wheel in the bundle's runtime/ folder."
            )
        try:
            contract = cls._parse(raw)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise IntegrityError(
                f"{path}: not what {SCHEMA_FILE} says ({type(error).__name__} {error}). {REFUSAL}"
            ) from None
        for name in (*contract.variants, contract.model, contract.target):
            if not NAMES.fullmatch(name):
                raise IntegrityError(f"{path}: {name!r} cannot name a model, target or variant. {REFUSAL}")
        if not contract.order or sorted(contract.order) != sorted(contract.variants):
            order, variants = ", ".join(contract.order), ", ".join(sorted(contract.variants))
            raise IntegrityError(f"{path}: order {order!a:.200} differs from variants {variants!a:.200}. {REFUSAL}")
        return contract

    @classmethod
    def _parse(cls, raw: JsonObject) -> "Contract":
        machine = raw["measured_on"]["machine"] or {}
        return cls(
            model=str(raw["model"]["name"]),
            target=str(raw["target"]["name"]),
            content=str(raw["content"]),
            order=tuple(map(str, _require_list(raw["selection"]["order"]))),
            variants={str(name): ShippedVariant.parse(entry) for name, entry in raw["variants"].items()},
            cpu=str(machine.get("cpu", "")),
            cpu_flags=frozenset(machine.get("flags", ())),
            # Bundles from before there was a host run on the CPU.
            providers=tuple(map(str, _require_list(raw["target"].get("host", {}).get("providers", [*CPU])))),
            uncertified=tuple(map(str, _require_list(raw["measured_on"].get("uncertified", [])))),
        )


def _require_list(value: object) -> list[object]:
    if not isinstance(value, list):  # text would be read letter by letter
        raise TypeError(f"a {type(value).__name__} where a list is expected")
    return value


def digest_content(hashes: Mapping[str, str]) -> str:
    """Return the digest of a bundle's content: two builds on the same kind of CPU agree on it, whatever they measured.

    Args:
        hashes: file name -> SHA-256, as a manifest lists them.
    """
    content = {name: digest for name, digest in hashes.items() if name.startswith(CONTENT)}
    return hashlib.sha256(manifest.canonical(content)).hexdigest()


def require_consistent(folder: Path, contract: Contract, hashes: Mapping[str, str]) -> None:
    """Check that a bundle's parts belong to one release: variants, verdict, catalog, bill of materials.

    A manifest says that bytes are whole; this says that they belong together and were judged together.

    Args:
        folder: the bundle.
        contract: its bundle.json.
        hashes: its files, already verified: name -> SHA-256.

    Raises:
        IntegrityError: a part is of another variant, model or verdict; the message names it.
    """
    try:
        _require_parts(folder, contract, hashes)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise IntegrityError(
            f"{folder}: {VERDICT}, {CATALOG} or {BOM} is not what a build writes ({type(error).__name__} {error}). "
            f"{REFUSAL}"
        ) from None


def _require_parts(folder: Path, contract: Contract, hashes: Mapping[str, str]) -> None:
    _require_equal(folder, "content", digest_content(hashes), contract.content)
    for name, shipped in contract.variants.items():
        variant = folder / "variants" / name
        _require_equal(variant, "digest", _read_part(folder, f"variants/{name}", hashes).digest, shipped.digest)
    _require_verdict(folder, contract, hashes)
    _require_materials(folder / BOM, hashes)


def _read_part(folder: Path, name: str, hashes: Mapping[str, str]) -> manifest.Manifest:
    """Return the manifest of a folder in a bundle after checking that it lists exactly what the bundle's own does.

    The files were hashed once, for the bundle's manifest, and are not read again.
    """
    part = manifest.read(folder / name)
    prefix = f"{name}/"
    actual = {file.removeprefix(prefix): digest for file, digest in hashes.items() if file.startswith(prefix)}
    actual.pop(manifest.NAME, None)
    for file in sorted(actual.keys() | part.files.keys()):
        if actual.get(file) != part.hashes.get(file):
            raise IntegrityError(
                f"{folder / name / file}: differs from what {folder / name / manifest.NAME} lists. {REFUSAL} Get it "
                "again from where it was published."
            )
    return part


def _require_verdict(folder: Path, contract: Contract, hashes: Mapping[str, str]) -> None:
    """Check that verdict and catalog are about these variants, and that the verdict passed them."""
    path, verdict, catalog = folder / VERDICT, _read(folder / VERDICT), _read_part(folder, CATALOG, hashes)
    digests = _read(folder / CATALOG / "catalog.json")
    _require_equal(path, "catalog", verdict.get("catalog"), catalog.digest)
    _require_equal(path, "target", verdict.get("target"), contract.target)
    _require_equal(path, "passing variants", verdict.get("release", {}).get("passing"), list(contract.order))
    for name, shipped in contract.variants.items():
        judged = verdict["variants"].get(name, {})
        _require_equal(folder / CATALOG, f"digest of {name}", digests.get(name), shipped.digest)
        _require_equal(path, f"space of {name}", judged.get("space_id"), shipped.space_id)
        _require_equal(path, f"checks of {name}", judged.get("checks"), shipped.checks)
        _require_equal(path, f"passes of {name}", judged.get("passes"), True)


def _require_materials(path: Path, hashes: Mapping[str, str]) -> None:
    """Check the files that the bill of materials lists; those of the base model are listed too, but do not ship."""
    for component in _read(path).get("components", []):
        for file in component.get("components", []):
            if (name := file["name"]).startswith(CONTENT):
                digests = {entry["content"] for entry in file.get("hashes", []) if entry["alg"] == "SHA-256"}
                _require_equal(path, f"hash of {name}", digests, {hashes.get(name)})


def _read(path: Path) -> JsonObject:
    return manifest.read_object(path, REFUSAL)


def _require_equal(path: Path, what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise IntegrityError(
            f"{path}: {what} is {_shorten(actual)}, {NAME} says {_shorten(expected)}; it is about another release. "
            f"{REFUSAL} Get it again from where it was published."
        )


def _shorten(value: object) -> str:
    """Return the beginning of a value, on one line."""
    return " ".join(str(value)[:80].split())
