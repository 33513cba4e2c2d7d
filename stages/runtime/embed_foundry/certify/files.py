"""Certificates beside a release, in NAME.certificates/: an in-toto statement a file, signed or not."""

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from .. import manifest, signature
from ..bundle import Bundle
from ..errors import FoundryError, IntegrityError, one_line
from ..manifest import JsonObject
from ..output.folder import replace_file
from ..signer import Signer
from .certificate import Certificate

SUFFIX = ".certificates"


@dataclass(frozen=True)
class FiledCertificate:
    """A certificate as it was read.

    Attributes:
        path: the file.
        certificate: what it says.
        signed: who signed it, in words.
    """

    path: Path
    certificate: Certificate
    signed: str


def folder_of(bundle: Path) -> Path:
    """Return the folder of a release's certificates, whether or not it exists."""
    folder = bundle.resolve()
    return folder.with_name(folder.name + SUFFIX)


def write(bundle: Path, certificate: Certificate, content: bytes) -> Path:
    """Write a certificate beside a release and return its path; the name follows from host and content.

    Args:
        bundle: the release.
        certificate: what it says.
        content: the statement, an envelope, or a Sigstore bundle.
    """
    folder, digest = folder_of(bundle), hashlib.sha256(content).hexdigest()
    folder.mkdir(exist_ok=True)
    path = folder / f"{certificate.host.system}-{certificate.host.arch}-{digest[:16]}.json"
    replace_file(path, content)
    return path


def read_all(bundle: Bundle, signer: Signer | None = None) -> tuple[list[FiledCertificate], list[str]]:
    """Return the certificates beside a release, and why others are none.

    Args:
        bundle: the release.
        signer: who must have signed them; None accepts unsigned ones, and signatures that are not checked.
    """
    manifest_sha256 = manifest.sha256(bundle.folder / manifest.NAME)
    filed, refused = [], []
    folder = folder_of(bundle.folder)
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            statement, signed = _open(path, signer)
            certificate = Certificate.parse(statement, bundle.digest, manifest_sha256)
        except FoundryError as error:
            refused.append(f"{path}: {one_line(error)}")
            continue
        filed.append(FiledCertificate(path, certificate, signed))
    return filed, refused


def _open(path: Path, signer: Signer | None) -> tuple[JsonObject, str]:
    """Return a file's statement, and who signed it."""
    if signer:
        payload_type, payload = signer.open_envelope(path)
        if payload_type != signature.PAYLOAD_TYPE:
            raise IntegrityError(f"it holds {payload_type}, expected {signature.PAYLOAD_TYPE}")
        return _parse(payload), f"signed by {signer}"
    try:
        content = _parse(path.read_bytes())
    except OSError as error:
        raise IntegrityError(f"it cannot be read ({error.strerror})") from None
    envelope = content.get("dsseEnvelope", content)  # in a Sigstore bundle if it was signed without a key
    if not isinstance(envelope, dict) or "payload" not in envelope:
        return content, "unsigned"
    try:
        return _parse(base64.b64decode(envelope["payload"], validate=True)), "signed, but the signer was not checked"
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"its envelope is not readable ({one_line(error)})") from None


def _parse(data: bytes) -> JsonObject:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"it is not JSON ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise IntegrityError("it is no JSON object")
    return content
