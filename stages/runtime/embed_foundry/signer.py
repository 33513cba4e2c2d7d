"""Who must have signed a bundle: the owner of a key pair, or an identity that Sigstore issued a certificate for.

Both check the same two files in a signature's folder: model.sig (OpenSSF model signing over every file) and
provenance.intoto.json (the provenance's DSSE envelope; without a key, inside a Sigstore bundle that also holds the
certificate and the transparency log's entry).
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from . import manifest
from .errors import InputError, one_line
from .signing.libraries import require_libraries, translate_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from model_signing import hashing
    from sigstore.models import ClientTrustConfig

SIGNATURE, PROVENANCE = "model.sig", "provenance.intoto.json"


@dataclass(frozen=True)
class Key:
    """The owner of a key pair.

    Attributes:
        path: the PEM file of an elliptic-curve public key.
    """

    path: Path
    advice: ClassVar[str] = "check that the key is its publisher's."

    def __str__(self) -> str:
        """Return the key's file."""
        return str(self.path)

    def check(self, bundle: Path, folder: Path, hashes: Mapping[str, str]) -> tuple[str, bytes]:
        """Check both files and return the provenance's payload type and payload.

        Args:
            bundle: the bundle whose files model.sig must be about.
            folder: the signature's folder.
            hashes: those files, as `signature.list_signed` returns them.

        Raises:
            InputError: the key cannot be read, or the libraries of the extra `verify` are missing.
            IntegrityError: a signature is by another key, or about other bytes.
        """
        load_public_key(self.path)  # a key that cannot be read is no fault of the signature
        with require_libraries(), translate_errors(folder / SIGNATURE, self):
            from model_signing import verifying

            _require(folder / SIGNATURE, "publicKey", "it is signed keyless: give --identity and --issuer")
            config = verifying.Config().use_elliptic_key_verifier(public_key=self.path)
            config.set_hashing_config(hashing_config(hashes)).verify(bundle, folder / SIGNATURE)
        return self.open_envelope(folder / PROVENANCE)

    def open_envelope(self, path: Path) -> tuple[str, bytes]:
        """Check the signature of a file with one signed statement and return its payload type and payload.

        Raises:
            InputError, IntegrityError: see `check`.
        """
        public = load_public_key(self.path)
        with require_libraries(), translate_errors(path, self):
            from securesystemslib.dsse import Envelope
            from securesystemslib.signer import SSlibKey

            envelope = Envelope.from_dict(json.loads(path.read_text(encoding="utf-8")))
            envelope.verify([SSlibKey.from_crypto(public)], 1)
        return envelope.payload_type, envelope.payload


@dataclass(frozen=True)
class Identity:
    """The identity that an OIDC issuer vouched for when Sigstore issued the signing certificate.

    Attributes:
        name: an e-mail address, or a URI such as
            https://github.com/OWNER/REPO/.github/workflows/FILE@refs/heads/main.
        issuer: the OIDC issuer's URL, such as https://token.actions.githubusercontent.com.
        trust: the ClientTrustConfig (JSON) of a private Sigstore instance; None is the public one.
    """

    name: str
    issuer: str
    trust: Path | None = None

    def __str__(self) -> str:
        """Return the identity, and who vouches for it."""
        return f"{self.name} ({self.issuer})"

    @property
    def advice(self) -> str:
        """Next step when a signature is not by this one."""
        if self.trust:
            return f"ask its publisher for identity and issuer, and whether {self.trust} is of the same Sigstore."
        return (
            "ask its publisher for identity and issuer. If the signature is newer than this machine's copy of "
            "Sigstore's keys: sigstore plumbing update-trust-root"
        )

    def check(self, bundle: Path, folder: Path, hashes: Mapping[str, str]) -> tuple[str, bytes]:
        """Check both files, without a network, and return the provenance's payload type and payload.

        Each is checked for the certificate's chain, log timestamp (SCT), identity and issuer; the transparency log's
        entry with its inclusion proof, signed checkpoint and time; and the signature.

        Args:
            bundle: the bundle whose files model.sig must be about.
            folder: the signature's folder.
            hashes: those files, as `signature.list_signed` returns them.

        Raises:
            InputError: `trust` cannot be read, or the libraries of the extra `verify` are missing.
            IntegrityError: a signature is by another identity, of another issuer or Sigstore, or about other bytes.
        """
        trusted = load_trust_config(self.trust)
        with require_libraries(), translate_errors(folder / SIGNATURE, self), trust_config_file(trusted) as file:
            from model_signing import verifying

            _require(folder / SIGNATURE, "certificate", "it is signed with a key pair: give --key")
            config = verifying.Config().use_sigstore_verifier(
                identity=self.name, oidc_issuer=self.issuer, trust_config=file
            )
            config.set_hashing_config(hashing_config(hashes)).verify(bundle, folder / SIGNATURE)
        return self.open_envelope(folder / PROVENANCE)

    def open_envelope(self, path: Path) -> tuple[str, bytes]:
        """Check the signature of a file with one signed statement and return its payload type and payload.

        Raises:
            InputError, IntegrityError: see `check`.
        """
        trusted = load_trust_config(self.trust)
        with require_libraries(), translate_errors(path, self):
            from sigstore.models import Bundle
            from sigstore.verify import Verifier, policy

            signed = Bundle.from_json(path.read_text(encoding="utf-8"))
            verifier = Verifier(trusted_root=trusted.trusted_root)
            payload_type, payload = verifier.verify_dsse(
                signed, policy.Identity(identity=self.name, issuer=self.issuer)
            )
        return payload_type, payload


Signer = Key | Identity


def make_signer(
    key: Path | None = None, identity: str | None = None, issuer: str | None = None, trust: Path | None = None
) -> Signer | None:
    """Return who must have signed, by a user's options; None if there are none.

    Raises:
        InputError: a key and an identity, an identity or an issuer alone, or `trust` without both.
    """
    keyless = (identity, issuer, trust) != (None, None, None)
    if key is not None and keyless:
        raise InputError("both a key and an identity were given. Give either --key, or --identity and --issuer.")
    if not keyless:
        return Key(key) if key is not None else None
    if not identity or not issuer:
        raise InputError(
            f"{'an issuer' if identity else 'an identity'} is missing: a certificate names both, and anybody can get "
            "one for the same name from another issuer. Give --identity and --issuer; `embed-foundry sign --keyless` "
            "printed them."
        )
    return Identity(identity, issuer, trust)


def load_trust_config(path: Path | None, *, refresh: bool = False) -> "ClientTrustConfig":
    """Return the addresses, keys and certificates of a Sigstore instance.

    Args:
        path: its ClientTrustConfig (JSON); None is the public instance, as this machine last saw it, or as the
            installed sigstore package has it.
        refresh: first ask the public instance for its current one (TUF); signing does, verifying never does.

    Raises:
        InputError: the file is not a ClientTrustConfig, or the cache in the home folder cannot be written.
    """
    with require_libraries():
        from sigstore.models import ClientTrustConfig
    # It warns of being offline, which is intended.
    logging.getLogger("sigstore._internal.tuf").setLevel(logging.ERROR)
    try:
        if path is None:
            return ClientTrustConfig.production(offline=not refresh)
        return ClientTrustConfig.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fault = f"cannot be used ({one_line(error)})"
        if path is None:
            raise InputError(
                f"the copy of Sigstore's keys in your home {fault}. Make XDG_CACHE_HOME writable, or give --trust."
            ) from None
        raise InputError(
            f"{path}: {fault}. Expected a ClientTrustConfig (JSON); ask whoever runs that Sigstore for it."
        ) from None


@contextmanager
def trust_config_file(trusted: "ClientTrustConfig") -> Iterator[Path]:
    """Yield a file with a ClientTrustConfig: model-signing takes a path, and without one asks the network."""
    text = trusted._inner.to_json()
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trust.json"
            path.write_text(text, encoding="utf-8")
            yield path
        return
    with os.fdopen(os.memfd_create("trust.json"), "w", encoding="utf-8") as file:  # where no folder can be written
        file.write(text)
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")


def hashing_config(hashes: Mapping[str, str]) -> "hashing.Config":
    """Return model-signing's configuration that takes a bundle's hashes as its verification computed them.

    By itself it would read every file again, and stop at links and at litter.

    Args:
        hashes: every file of the bundle, also git's own and the manifest: name -> hex SHA-256.
    """
    from model_signing import hashing
    from model_signing.manifest import Manifest, SerializationType

    class VerifiedHashes(hashing.Config):  # type: ignore[misc]
        def hash(self, model_path: str | Path, *, files_to_hash: object = None) -> Manifest:
            # One file's digest, for the type that model-signing gives it.
            config = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False).set_allow_symlinks(True)
            own = config.hash(model_path, files_to_hash=[Path(model_path) / manifest.NAME])
            digest = next(own.resource_descriptors()).digest
            scheme = SerializationType.from_args(own.serialization_type | {"allow_symlinks": False})
            items = [
                scheme.new_item(name, replace(digest, digest_value=bytes.fromhex(sha256)))
                for name, sha256 in hashes.items()
            ]
            return Manifest(own.model_name, items, scheme)

    return VerifiedHashes()


def load_public_key(path: Path) -> "ec.EllipticCurvePublicKey":
    """Read an elliptic-curve public key in PEM.

    Raises:
        InputError: missing, or not such a key.
    """
    with require_libraries():
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a public key in PEM ({error}). `embed-foundry keygen` makes one.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InputError(f"{path}: expected an elliptic-curve key. `embed-foundry keygen` makes one.")
    return key


def _require(path: Path, field: str, otherwise: str) -> None:
    """Raise ValueError(`otherwise`) unless a Sigstore bundle has this field of verification material."""
    if field not in json.loads(path.read_text(encoding="utf-8"))["verificationMaterial"]:
        raise ValueError(otherwise)
