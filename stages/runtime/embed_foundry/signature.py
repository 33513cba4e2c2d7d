"""Who made a bundle: a signature over every file and a signed provenance, in a folder beside the bundle.

`NAME.signature/` beside `NAME/` holds model.sig (OpenSSF model signing: a Sigstore bundle over every file's digest, the
manifest's included) and provenance.intoto.json (a DSSE envelope around an in-toto statement with SLSA provenance).
Beside, not inside: signing changes no byte of a bundle, hence not its identity, and a bundle can be signed again.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import manifest
from .errors import InputError, IntegrityError

SUFFIX = ".signature"
SIGNATURE, PROVENANCE = "model.sig", "provenance.intoto.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
# What of model-signing's message names files; the rest is digests as Python's repr shows bytes.
MISMATCH = re.compile(r"Hash mismatch for [^:]*|(?:Extra|Missing) files [^\"\]]*")
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"


def folder_of(bundle: Path) -> Path:
    """Return where a bundle's signature is."""
    whole = bundle.resolve()
    return whole.with_name(whole.name + SUFFIX)


def verify(bundle: Path, key: Path) -> dict[str, Any]:
    """Check a bundle's signature and provenance and return the provenance's statement; loads nothing of the bundle.

    Args:
        bundle: the bundle; its manifest is taken as verified.
        key: the PEM file of an elliptic-curve public key that is trusted.

    Raises:
        InputError: the key cannot be read, or the libraries of the extra `verify` are missing.
        IntegrityError: unsigned, signed by another key, or signed for other bytes.
    """
    folder, public = folder_of(bundle), public_key(key)
    for name in (SIGNATURE, PROVENANCE):
        if not (folder / name).is_file():
            raise IntegrityError(
                f"{bundle}: is unsigned, {folder / name} is missing. Get it from where the bundle was published, "
                "or open the bundle without a key if you trust how you got it."
            )
    with libraries(), refusals(folder / SIGNATURE, key):
        from model_signing import verifying

        config = verifying.Config().use_elliptic_key_verifier(public_key=key).set_hashing_config(hashing())
        config.verify(bundle, folder / SIGNATURE)
    statement = _statement(folder / PROVENANCE, key, public)
    _check_subject(folder / PROVENANCE, statement, bundle)
    return statement


def told(bundle: Path, statement: dict[str, Any] | None, key: Path | None) -> str:
    """Say in one line who signed a bundle, as far as that was checked."""
    if statement is not None:
        sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        commit = next((item["digest"]["gitCommit"] for item in sources if item.get("name") == "source"), "unknown")
        return f"signed by {key}, built from commit {commit}"
    if folder_of(bundle).is_dir():
        return "signed, but by whom was not checked: give --key PUBLIC_KEY"
    return "unsigned: its bytes are whole, but nobody vouches for them"


def hashing() -> Any:  # noqa: ANN401 - model_signing.hashing.Config
    """Return how files are hashed for the signature: every one, also those that git would use."""
    from model_signing import hashing as hashes

    return hashes.Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def public_key(path: Path) -> Any:  # noqa: ANN401 - cryptography's key
    """Read an elliptic-curve public key.

    Raises:
        InputError: missing, or not the PEM of such a key.
    """
    with libraries():
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a public key in PEM ({error}). `embed-foundry keygen` makes one.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InputError(f"{path}: is another kind of key, expected an elliptic curve's. `embed-foundry keygen`.")
    return key


def subject(bundle: Path) -> list[dict[str, Any]]:
    """Return an in-toto subject: every file of a bundle, its manifest included, by SHA-256."""
    files = {name: fact["sha256"] for name, fact in manifest.read(bundle)["files"].items()}
    files[manifest.NAME] = manifest.sha256(bundle / manifest.NAME)
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())]


def _statement(path: Path, key: Path, public: Any) -> dict[str, Any]:  # noqa: ANN401
    with libraries(), refusals(path, key):
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import SSlibKey

        envelope = Envelope.from_dict(json.loads(path.read_text(encoding="utf-8")))
        envelope.verify([SSlibKey.from_crypto(public)], 1)
        statement: dict[str, Any] = json.loads(envelope.payload)
        kinds = (envelope.payload_type, statement["_type"], statement["predicateType"])
    if kinds != (PAYLOAD_TYPE, STATEMENT, PREDICATE):
        raise IntegrityError(f"{path}: is {' '.join(kinds)}, expected SLSA provenance v1. Sign the bundle again.")
    return statement


def _check_subject(path: Path, statement: dict[str, Any], bundle: Path) -> None:
    found = {item["name"]: item["digest"] for item in statement["subject"]}
    expected = {item["name"]: item["digest"] for item in subject(bundle)}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise IntegrityError(f"{path}: is about another {name} than {bundle} holds. Do not use this bundle.")


@contextmanager
def libraries() -> Iterator[None]:
    """Turn a missing library into what to install."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"signatures need libraries that are missing ({error}). Next: pip install 'embed_foundry[verify]'"
        ) from None


@contextmanager
def refusals(path: Path, key: Path) -> Iterator[None]:
    """Turn whatever the signing libraries raise into a refusal: they have no common base of errors."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        told = [part.replace("\\", "") for part in MISMATCH.findall(str(error))]
        reason = "; ".join(told) or str(error).strip() or type(error).__name__
        raise IntegrityError(
            f"{path}: not a valid signature by {key} ({reason}). Do not use this bundle; "
            "check that the key is its publisher's."
        ) from None
