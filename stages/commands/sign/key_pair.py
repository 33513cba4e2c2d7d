"""Signing with a key pair of one's own."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import signature
from embed_foundry.errors import InputError
from embed_foundry.signer import PROVENANCE, SIGNATURE, hashing_config
from embed_foundry.signing.key_pair import build_envelope, load_private_key
from embed_foundry.signing.libraries import require_libraries

from stages.commands.sign.provenance import Statement
from stages.commands.sign.signing import WriteSignature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

PUBLIC_SUFFIX = ".pub"


@dataclass(frozen=True)
class KeyPairSigner:
    """Signs with a private key.

    Attributes:
        path: the key's PEM file, as `generate_key_pair` makes it.
    """

    path: Path

    def prepare(self) -> WriteSignature:
        """Read the key and return what writes a signature.

        Raises:
            InputError: not the PEM of an elliptic-curve private key, or libraries are missing.
        """
        with require_libraries():
            import model_signing  # noqa: F401 - missing libraries are reported before any work
        return partial(self._write, load_private_key(self.path))

    def _write(self, private: "EllipticCurvePrivateKey", bundle: Path, statement: Statement, folder: Path) -> None:
        from model_signing import signing

        config = signing.Config().use_elliptic_key_signer(private_key=self.path)
        config.set_hashing_config(hashing_config(signature.read_subject(statement)))
        config.sign(bundle, folder / SIGNATURE)
        (folder / PROVENANCE).write_bytes(build_envelope(statement, private))


def generate_key_pair(out: Path) -> tuple[Path, Path]:
    """Make a key pair (elliptic curve P-256, PEM) and return the private and the public file.

    Args:
        out: the private key's file, readable by its owner alone; the public one gets the suffix .pub.

    Raises:
        InputError: a file exists, or cannot be written.
    """
    with require_libraries():
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    public = out.with_name(out.name + PUBLIC_SUFFIX)
    key = ec.generate_private_key(ec.SECP256R1())
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for path, content, mode in ((out, private_pem, 0o600), (public, public_pem, 0o644)):
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be created ({error.strerror}). A key is never replaced; choose another file."
            ) from None
    return out, public
