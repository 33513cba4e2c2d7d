"""Who made a bundle: a signature over every file and a signed provenance, in a folder beside the bundle.

`NAME.signature/` beside `NAME/` holds model.sig (OpenSSF model signing: a Sigstore bundle over every file's digest, the
manifest's included) and provenance.intoto.json (an in-toto statement with SLSA provenance, signed the same way).
Beside, not inside: signing changes no byte of a bundle, hence not its identity, and a bundle can be signed again.
"""

import json
from pathlib import Path
from typing import Any

from . import manifest
from .errors import IntegrityError
from .signer import PROVENANCE, SIGNATURE, Signer

SUFFIX = ".signature"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"


def folder_of(bundle: Path) -> Path:
    """Return where a bundle's signature is."""
    whole = bundle.resolve()
    return whole.with_name(whole.name + SUFFIX)


def verify(bundle: Path, signer: Signer, folder: Path | None = None) -> dict[str, Any]:
    """Check a bundle's signature and provenance and return the provenance's statement; loads nothing of the bundle.

    Args:
        bundle: the bundle; its manifest is taken as verified.
        signer: who must have signed it.
        folder: the signature's; None is beside the bundle.

    Raises:
        InputError: see the signer's `check`.
        IntegrityError: unsigned, signed by another one, or signed for other bytes.
    """
    beside = folder or folder_of(bundle)
    for name in (SIGNATURE, PROVENANCE):
        if not (beside / name).is_file():
            raise IntegrityError(
                f"{bundle}: is unsigned, {beside / name} is missing. Get it from where the bundle was published, "
                "or open the bundle without asking who signed it if you trust how you got it."
            )
    kind, payload = signer.check(bundle, beside)
    statement = _statement(beside / PROVENANCE, kind, payload)
    _check_subject(beside / PROVENANCE, statement, bundle)
    return statement


def told(bundle: Path, statement: dict[str, Any] | None, signer: Signer | None) -> str:
    """Say in one line who signed a bundle, as far as that was checked."""
    if statement is not None:
        sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        commit = next((item["digest"]["gitCommit"] for item in sources if item.get("name") == "source"), "unknown")
        return f"signed by {signer}, built from commit {commit}"
    if folder_of(bundle).is_dir():
        return "signed, but by whom was not checked: give --key PUBLIC_KEY, or --identity and --issuer"
    return "unsigned: its bytes are whole, but nobody vouches for them"


def subject(bundle: Path) -> list[dict[str, Any]]:
    """Return an in-toto subject: every file of a bundle, its manifest included, by SHA-256."""
    files = manifest.read(bundle).hashes | {manifest.NAME: manifest.sha256(bundle / manifest.NAME)}
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())]


def _statement(path: Path, kind: str, payload: bytes) -> dict[str, Any]:
    statement: dict[str, Any] = {}
    try:
        statement = json.loads(payload)
        kinds: tuple[str, ...] = (kind, statement["_type"], statement["predicateType"])
    except (ValueError, TypeError, KeyError):
        kinds = (kind, "of unknown content")
    if kinds != (PAYLOAD_TYPE, STATEMENT, PREDICATE):
        raise IntegrityError(f"{path}: is {' '.join(kinds)}, expected SLSA provenance v1. Sign the bundle again.")
    return statement


def _check_subject(path: Path, statement: dict[str, Any], bundle: Path) -> None:
    found = {item["name"]: item["digest"] for item in statement["subject"]}
    expected = {item["name"]: item["digest"] for item in subject(bundle)}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise IntegrityError(f"{path}: is about another {name} than {bundle} holds. Do not use this bundle.")
