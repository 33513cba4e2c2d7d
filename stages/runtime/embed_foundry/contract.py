"""bundle.json as a contract: its version, what a runtime reads from it, and what must agree with the rest of a bundle.

bundle.schema.json, in this package and in every bundle, is the whole contract as JSON Schema; the build checks by it.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import manifest
from .errors import IntegrityError

NAME = "bundle.json"
SCHEMA = 2
SCHEMA_FILE = "bundle.schema.json"
NAMES = re.compile(r"\w[\w.-]*")
# What a user of the bundle runs or must hand on; the rest is evidence, which is measured and differs between builds.
CONTENT = ("variants/", "probes/", "runtime/", "licenses/", "LICENSE", "NOTICE", "android.json")
VERDICT, CATALOG, BOM = "evidence/verdict.json", "evidence/catalog", "bom.cdx.json"


@dataclass(frozen=True)
class Shipped:
    """What the contract says of one shipped variant.

    Attributes:
        kind: the encoder that runs it, a key of `kinds.KINDS`.
        digest: of its folder's manifest.
        bits: width of its weights.
        space_id: the vector space, as confirmed by mixed indexes.
        device: "cpu" or "cuda".
        cpu_any: architecture -> instruction sets of which the CPU needs one; absent where any CPU will do.
        peak_rss_mb: measured peak memory of a process; None if it was not measured.
        facts: everything that is recorded of it.
    """

    kind: str
    digest: str
    bits: int
    space_id: str
    device: str
    cpu_any: dict[str, frozenset[str]]
    peak_rss_mb: float | None
    facts: dict[str, Any]

    @classmethod
    def read(cls, raw: dict[str, Any]) -> "Shipped":
        """Read one entry of `variants`; a missing key raises KeyError, a wrong type TypeError or ValueError."""
        peak = raw["measured"]["peak_rss_mb"]
        return cls(
            kind=str(raw["kind"]),
            digest=str(raw["digest"]),
            bits=int(raw["bits"]),
            space_id=str(raw["space_id"]),
            device=str(raw["device"]),
            cpu_any={str(arch): frozenset(flags) for arch, flags in raw["cpu_any"].items()},
            peak_rss_mb=None if peak is None else float(peak),
            facts=raw,
        )


@dataclass(frozen=True)
class Contract:
    """What a runtime reads from bundle.json.

    Attributes:
        order: names of the shipped variants in the order in which the target wants them tried.
        variants: the same names -> what is said of them.
        raw: the whole of bundle.json.
    """

    order: tuple[str, ...]
    variants: dict[str, Shipped]
    raw: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "Contract":
        """Read a bundle's bundle.json.

        Raises:
            IntegrityError: missing, of another version, or not what the contract says.
        """
        path = folder / NAME
        raw = manifest.read_object(path, "Do not open it: this is no release bundle.")
        found = raw.get("schema")
        if found != SCHEMA:
            raise IntegrityError(
                f"{path}: has schema {found}, this runtime reads {SCHEMA}. "
                "Install the wheel in the bundle's runtime/ folder."
            )
        try:
            variants = {str(name): Shipped.read(entry) for name, entry in raw["variants"].items()}
            order = tuple(map(str, raw["selection"]["order"]))
            names = [*variants, str(raw["model"]["name"]), str(raw["target"]["name"])]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(
                f"{path}: not what {SCHEMA_FILE} says ({type(error).__name__} {error}). Do not use this bundle."
            ) from None
        # They become parts of paths.
        if bad := [name for name in names if not NAMES.fullmatch(name)]:
            raise IntegrityError(
                f"{path}: {bad[0]!r} is no name of a model, target or variant. Do not use this bundle."
            )
        if not order or sorted(order) != sorted(variants):
            raise IntegrityError(f"{path}: order {list(order)} is not its variants {sorted(variants)}. Do not use it.")
        return cls(order, variants, raw)


def content(hashes: Mapping[str, str]) -> str:
    """Return the digest of a bundle's content: two builds on the same kind of CPU agree on it, whatever they measured.

    Args:
        hashes: file name -> SHA-256, as a manifest lists them.
    """
    part = {name: digest for name, digest in hashes.items() if name.startswith(CONTENT)}
    return hashlib.sha256(manifest.canonical(part)).hexdigest()


def check(folder: Path, told: Contract, hashes: Mapping[str, str]) -> None:
    """Check that a bundle's parts are about each other: variants, verdict, catalog, bill of materials.

    A manifest says that bytes are whole; this says that they belong together, and were judged together.

    Args:
        folder: the bundle.
        told: its bundle.json.
        hashes: its files, already verified: name -> SHA-256.

    Raises:
        IntegrityError: a part is of another variant, model or verdict; the message names it.
    """
    _same(folder, "content", content(hashes), told.raw.get("content"))
    for name, shipped in told.variants.items():
        _same(folder / "variants" / name, "digest", manifest.read(folder / "variants" / name).digest, shipped.digest)
    verdict, catalog = _json(folder / VERDICT), manifest.verify(folder / CATALOG)
    listed = _json(folder / CATALOG / "catalog.json")
    _same(folder / VERDICT, "catalog", verdict.get("catalog"), catalog.digest)
    _same(folder / VERDICT, "target", verdict.get("target"), told.raw["target"]["name"])
    _same(folder / VERDICT, "passing variants", verdict.get("release", {}).get("passing"), list(told.order))
    for name, shipped in told.variants.items():
        judged = verdict["variants"].get(name, {})
        _same(folder / CATALOG, f"digest of {name}", listed.get(name), shipped.digest)
        _same(folder / VERDICT, f"space of {name}", judged.get("space_id"), shipped.space_id)
        _same(folder / VERDICT, f"checks of {name}", judged.get("checks"), shipped.facts["checks"])
        _same(folder / VERDICT, f"passes of {name}", judged.get("passes"), True)
    for component in _json(folder / BOM).get("components", []):
        for part in component.get("components", []):
            if part["name"].startswith(CONTENT):  # files of the base model are listed too, and do not ship
                listed_hash = {item["content"] for item in part.get("hashes", []) if item["alg"] == "SHA-256"}
                _same(folder / BOM, f"hash of {part['name']}", listed_hash, {hashes.get(part["name"])})


def _json(path: Path) -> dict[str, Any]:
    return manifest.read_object(path, "Do not use this bundle.")


def _same(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise IntegrityError(
            f"{path}: {what} is {str(found)[:80]}, {NAME} says {str(expected)[:80]}; it is about another release. "
            "Do not use this bundle; get it again from where it was published."
        )
