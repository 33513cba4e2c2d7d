"""Who made a bundle: a signature over every file and a signed provenance, in a folder beside the bundle.

`NAME.signature/` beside `NAME/` holds model.sig (OpenSSF model signing: a Sigstore bundle over the digest of every
file, manifest included) and provenance.intoto.json (an in-toto statement with SLSA provenance, signed the same way).
It lies beside the bundle, not inside: signing changes no byte of a bundle, hence not its identity, and a bundle can be
signed again.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from . import manifest
from .errors import IntegrityError, one_line
from .manifest import JsonObject, Manifest
from .signer import PROVENANCE, SIGNATURE, Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"


def folder_of(bundle: Path) -> Path:
    """Return the folder of a bundle's signature, whether or not it exists."""
    folder = bundle.resolve()
    return folder.with_name(folder_name(folder.name))


def folder_name(bundle: str) -> str:
    """Return the name of a signature's folder, given the name of the bundle's."""
    return f"{bundle}.signature"


def verify(bundle: Path, signer: Signer, folder: Path | None = None, body: Manifest | None = None) -> JsonObject:
    """Check a bundle's signature and provenance and return the provenance's statement; loads nothing of the bundle.

    Args:
        bundle: the bundle.
        signer: who must have signed it.
        folder: the signature's folder; None is the one beside the bundle.
        body: what `manifest.verify` has just returned of the bundle; None verifies it here.

    Raises:
        InputError: see the signer's `check`.
        IntegrityError: unsigned, signed by somebody else, or signed for other bytes.
    """
    folder = folder or folder_of(bundle)
    for name in (SIGNATURE, PROVENANCE):
        if not (folder / name).is_file():
            raise IntegrityError(
                f"{bundle}: is unsigned, {folder / name} is missing. Get it from where the bundle was published, "
                "or, if you trust where you got the bundle, open it without a signature check."
            )
    hashes = list_signed(bundle, body or manifest.verify(bundle))
    payload_type, payload = signer.check(bundle, folder, hashes)
    statement = _parse_statement(folder / PROVENANCE, payload_type, payload)
    _require_subject(folder / PROVENANCE, statement, bundle, hashes)
    return statement


def require_own(bundle: Path, body: Manifest) -> None:
    """Check that the signature beside a bundle is about its bytes; who signed them is not checked.

    Raises:
        IntegrityError: it is about other bytes, so the bundle was replaced after it was signed; or it is unreadable.
    """
    folder = folder_of(bundle)
    try:
        envelope = json.loads((folder / PROVENANCE).read_bytes())
        envelope = envelope.get("dsseEnvelope", envelope)  # inside a Sigstore bundle if it was signed without a key
        payload_type, payload = str(envelope["payloadType"]), base64.b64decode(envelope["payload"], validate=True)
        statement = _parse_statement(folder / PROVENANCE, payload_type, payload)
        own = read_subject(statement) == list_signed(bundle, body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{folder}: is not readable as a signature ({one_line(error)}). Sign {bundle} again, or remove {folder}."
        ) from None
    if not own:
        raise IntegrityError(
            f"{folder}: signs other bytes than {bundle} has, which was built or fetched again since. Sign it again, "
            f"or remove {folder}."
        )


def list_signed(bundle: Path, body: Manifest) -> dict[str, str]:
    """Return what a signature is about: name -> SHA-256 of every file of a bundle, its manifest included.

    Args:
        bundle: the bundle.
        body: its manifest, as `manifest.verify` returned it; files that it does not list are no part of the bundle.
    """
    return body.hashes | {manifest.NAME: manifest.sha256(bundle / manifest.NAME)}


def describe(bundle: Path, statement: JsonObject | None, signer: Signer | None) -> str:
    """Return one line that says who signed a bundle, as far as that was checked.

    Args:
        bundle: the bundle.
        statement: what `verify` returned; None if no signature was checked.
        signer: who was checked to have signed it.
    """
    if statement is not None:
        sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        commits = [source["digest"]["gitCommit"] for source in sources if source.get("name") == "source"]
        return f"signed by {signer}, built from commit {commits[0] if commits else 'unknown'}"
    if folder_of(bundle).is_dir():
        return "signed, but the signer was not checked: give --key PUBLIC_KEY, or --identity and --issuer"
    return "unsigned: every file matches the manifest, but nobody vouches for it"


def build_subject(hashes: Mapping[str, str]) -> list[JsonObject]:
    """Return an in-toto subject: the files that `list_signed` returned."""
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(hashes.items())]


def read_subject(statement: JsonObject) -> dict[str, str]:
    """Return the files that a statement is about: name -> SHA-256."""
    return {file["name"]: file["digest"]["sha256"] for file in statement["subject"]}


def _parse_statement(path: Path, payload_type: str, payload: bytes) -> JsonObject:
    statement: JsonObject = {}
    try:
        statement = json.loads(payload)
        types: tuple[str, ...] = (payload_type, statement["_type"], statement["predicateType"])
    except (ValueError, RecursionError, TypeError, KeyError):
        types = (payload_type, "of unknown content")
    if types != (PAYLOAD_TYPE, STATEMENT, PREDICATE):
        raise IntegrityError(f"{path}: is {' '.join(types)}, expected SLSA provenance v1. Sign the bundle again.")
    return statement


def _require_subject(path: Path, statement: JsonObject, bundle: Path, hashes: Mapping[str, str]) -> None:
    """Check that a statement is about exactly the files of a bundle."""
    signed = read_subject(statement)
    for name in sorted(signed.keys() | hashes.keys()):
        if signed.get(name) != hashes.get(name):
            raise IntegrityError(f"{path}: signs a {name} that differs from {bundle}'s. Do not use this bundle.")
