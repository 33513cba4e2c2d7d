"""Signing without a key: Sigstore issues a ten-minute certificate to the owner of an OIDC token, and logs its use.

The token is CI's own (GitHub: `id-token: write`), or a person's, by the browser. It buys two certificates, one for each
file, because model-signing requests its own.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import signature
from embed_foundry.errors import FoundryError, InputError, IntegrityError, RemoteError, RetryableError, one_line
from embed_foundry.signer import (
    PROVENANCE,
    SIGNATURE,
    Identity,
    hashing_config,
    load_trust_config,
    require_libraries,
    trust_config_file,
)

from stages.commands.sign.provenance import Statement, encode_statement
from stages.commands.sign.signing import WriteSignature

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken

RETRIED_STATUS = {429, *range(500, 600)}
# In the message of `id`, which keeps no status.
UNAVAILABLE = re.compile(r"\(code=(5\d\d|429)\b")
WITHOUT_OIDC = (
    "keyless signing needs an OIDC token, and there is none here. GitHub Actions: give the job `permissions: id-token: "
    "write`; GitLab: id_tokens with SIGSTORE_ID_TOKEN; a person: run it in a terminal."
)


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
            InputError: there is no token here, `trust` cannot be read, or libraries are missing.
            RemoteError: the token's issuer refused.
            RetryableError: the issuer, or the instance's keys (TUF), cannot be reached.
        """
        with require_libraries():
            import model_signing  # noqa: F401 - missing libraries are reported before any work
            from sigstore import oidc
        with _translate_errors():
            raw_token = oidc.detect_credential()
            if raw_token is None and not sys.stdin.isatty():
                raise InputError(WITHOUT_OIDC)
            trusted = load_trust_config(self.trust, refresh=True)
            issuer = trusted.signing_config.get_oidc_url()
            token = oidc.IdentityToken(raw_token) if raw_token else oidc.Issuer(issuer).identity_token()
        return partial(self._write, trusted, token)

    def _write(
        self, trusted: "ClientTrustConfig", token: "IdentityToken", bundle: Path, statement: Statement, folder: Path
    ) -> Identity:
        from cryptography import x509
        from model_signing import signing
        from sigstore.dsse import Statement as DsseStatement
        from sigstore.sign import SigningContext

        with _translate_errors(), trust_config_file(trusted) as file:
            config = signing.Config().use_sigstore_signer(identity_token=str(token), trust_config=file)
            config.set_hashing_config(hashing_config(signature.read_subject(statement)))
            config.sign(bundle, folder / SIGNATURE)
            with SigningContext.from_trust_config(trusted).signer(token) as signer:
                signed = signer.sign_dsse(DsseStatement(encode_statement(statement)))
        (folder / PROVENANCE).write_text(signed.to_json(), encoding="utf-8")
        names = signed.signing_certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identity = Identity(str(names[0].value), token.federated_issuer, self.trust)
        signature.verify(bundle, identity, folder)
        return identity


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise this project's errors in place of those of Sigstore's client."""
    try:
        yield
    except FoundryError:
        raise
    except Exception as error:
        if (translated := _translate(error)) is None:
            raise
        raise translated from error


def _translate(error: Exception) -> FoundryError | None:
    """Return what an error of Sigstore's client means, judged by its causes; None if it is about this machine."""
    import requests

    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and isinstance(cause, Exception):
        causes.append(cause)
    for cause in causes:
        if translated := _translate_cause(cause):
            return translated
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return None
    return RemoteError(f"Sigstore, or the token's issuer, refused ({one_line(error)}). Nothing was signed.")


def _translate_cause(cause: Exception) -> FoundryError | None:
    import id as ambient
    import requests
    import urllib3
    from sigstore.errors import VerificationError
    from sigstore.oidc import ExpiredIdentity

    message = one_line(cause) or type(cause).__name__
    if isinstance(cause, requests.HTTPError) and cause.response is not None:
        text = " ".join(cause.response.text.split())[:300]
        if cause.response.status_code in RETRIED_STATUS:
            return RetryableError(f"Sigstore is unavailable ({message}: {text}). Nothing was signed; run again.")
        return RemoteError(f"Sigstore refused ({message}: {text}). Nothing was signed.")
    if isinstance(cause, requests.ConnectionError | requests.Timeout | urllib3.exceptions.HTTPError):
        return RetryableError(f"Sigstore cannot be reached ({message}). Nothing was signed; run again.")
    if isinstance(cause, ExpiredIdentity):
        return RetryableError("the OIDC token expired before it was used. Nothing was signed; run again.")
    if isinstance(cause, VerificationError):
        return IntegrityError(f"what Sigstore issued does not verify ({message}). Nothing was signed; check --trust.")
    if isinstance(cause, ambient.IdentityError) and UNAVAILABLE.search(message):
        return RetryableError(f"the OIDC token's issuer is unavailable ({message}). Nothing was signed; run again.")
    if isinstance(cause, ambient.GitHubOidcPermissionCredentialError):
        return InputError(f"{WITHOUT_OIDC} ({message})")
    return None
