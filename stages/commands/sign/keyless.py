"""Signing a bundle without a key. A token buys two certificates, one a file: model-signing requests its own."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from embed_foundry import signature
from embed_foundry.signer import PROVENANCE, SIGNATURE, Identity, hashing_config, trust_config_file
from embed_foundry.signing.keyless import Login, log_in, translate_errors
from embed_foundry.signing.libraries import require_libraries

from stages.commands.sign.provenance import Statement
from stages.commands.sign.signing import WriteSignature


@dataclass(frozen=True)
class KeylessSigner:
    """Signs as whoever this process is to an OIDC issuer.

    Attributes:
        trust: the ClientTrustConfig (JSON) of a Sigstore instance of one's own; None is the public one, whose log
            anybody can read.
    """

    trust: Path | None = None

    def prepare(self) -> WriteSignature:
        """Get an OIDC token for the Sigstore instance and return what writes a signature.

        What is returned verifies its own signature. It raises RemoteError (Sigstore refused, or answers otherwise than
        it should), RetryableError (it cannot be reached, or the token expired) and IntegrityError (what it issued does
        not verify).

        Raises:
            InputError, RemoteError, RetryableError: see `log_in`.
        """
        with require_libraries():
            import model_signing  # noqa: F401 - missing libraries are reported before any work
        return partial(_write, log_in(self.trust))


def _write(login: Login, bundle: Path, statement: Statement, folder: Path) -> Identity:
    from model_signing import signing

    with translate_errors(), trust_config_file(login.trusted) as file:
        config = signing.Config().use_sigstore_signer(identity_token=str(login.token), trust_config=file)
        config.set_hashing_config(hashing_config(signature.read_subject(statement)))
        config.sign(bundle, folder / SIGNATURE)
    signed, identity = login.sign(statement)
    (folder / PROVENANCE).write_text(signed, encoding="utf-8")
    signature.verify(bundle, identity, folder)
    return identity
