"""Signing with a key pair of one's own: a DSSE envelope (https://github.com/secure-systems-lab/dsse)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .. import signature
from ..errors import InputError
from ..manifest import JsonObject
from .libraries import require_libraries

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def load_private_key(path: Path) -> "EllipticCurvePrivateKey":
    """Read an elliptic-curve private key.

    Raises:
        InputError: not the PEM of such a key, or libraries are missing.
    """
    with require_libraries():
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a private key in PEM ({error}). `embed-foundry keygen` makes one.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(
            f"{path}: is another kind of key, expected an elliptic-curve key. `embed-foundry keygen` makes one."
        )
    return key


def encode_statement(statement: JsonObject) -> bytes:
    """Return a statement's bytes, which are what is signed."""
    return json.dumps(statement, sort_keys=True, allow_nan=False).encode()


def build_envelope(statement: JsonObject, private: "EllipticCurvePrivateKey") -> bytes:
    """Return a statement in a signed DSSE envelope, as JSON."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

    envelope = Envelope(encode_statement(statement), signature.PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(private, SSlibKey.from_crypto(private.public_key())))
    return json.dumps(envelope.to_dict()).encode()
