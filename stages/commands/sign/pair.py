"""Signing with a key pair of one's own."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError
from embed_foundry.signer import PROVENANCE, SIGNATURE, hashing_config, require_libraries

from stages.commands.sign import provenance

PUBLIC = ".pub"


@dataclass(frozen=True)
class Pair:
    """A private key.

    Attributes:
        path: its PEM file, as `keygen` makes it.
    """

    path: Path

    def prepare(self) -> Any:  # noqa: ANN401 - cryptography's key
        """Read the key.

        Raises:
            InputError: not the PEM of an elliptic curve's private key, or libraries are missing.
        """
        with require_libraries():
            import model_signing  # noqa: F401 - missing libraries are told before any work
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        try:
            key = load_pem_private_key(self.path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{self.path}: not a private key in PEM ({error}). `embed-foundry keygen` makes one."
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InputError(
                f"{self.path}: is another kind of key, expected an elliptic curve's. `embed-foundry keygen`."
            )
        return key

    def write(self, private: Any, bundle: Path, statement: dict[str, Any], folder: Path) -> None:  # noqa: ANN401
        """Write signature and provenance of a bundle to a folder; `private` is what `prepare` gave."""
        from model_signing import signing

        config = signing.Config().use_elliptic_key_signer(private_key=self.path).set_hashing_config(hashing_config())
        config.sign(bundle, folder / SIGNATURE)
        (folder / PROVENANCE).write_bytes(provenance.envelope(statement, private))


def keygen(out: Path) -> tuple[Path, Path]:
    """Make a key pair (elliptic curve P-256, PEM) and return the private and the public file.

    Args:
        out: the private key's file, readable by its owner alone; the public one gets the suffix .pub.

    Raises:
        InputError: a file exists, or cannot be written.
    """
    with require_libraries():
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    public = out.with_name(out.name + PUBLIC)
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for path, content, mode in ((out, private, 0o600), (public, shown, 0o644)):
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be made ({error.strerror}). A key is never replaced; choose another."
            ) from None
    return out, public
