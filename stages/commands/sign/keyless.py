"""Signing without a key: Sigstore issues a certificate of ten minutes to whom an OIDC token names, and logs its use.

The token is CI's own (GitHub: `id-token: write`) or a person's, by the browser. It buys two certificates, one for each
file, because model-signing asks for its own.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import signature
from embed_foundry.errors import FoundryError, InputError, IntegrityError, RemoteError, RetryableError
from embed_foundry.signer import (
    PROVENANCE,
    SIGNATURE,
    Identity,
    hashing_config,
    load_trust_config,
    require_libraries,
    trust_config_file,
)

from stages.commands.sign import provenance

RETRIED = {429, *range(500, 600)}
# Of the message of `id`, which keeps no status.
UNAVAILABLE = re.compile(r"\(code=(5\d\d|429)\b")
NO_CREDENTIAL = (
    "keyless signing needs an OIDC token, and there is none here. GitHub Actions: give the job `permissions: id-token: "
    "write`; GitLab: id_tokens with SIGSTORE_ID_TOKEN; a person: run it in a terminal."
)


@dataclass(frozen=True)
class Keyless:
    """Whoever this process is to an OIDC issuer.

    Attributes:
        trust: the ClientTrustConfig (JSON) of a Sigstore instance of one's own; None is the public one, whose log
            anybody can read.
    """

    trust: Path | None = None

    def prepare(self) -> tuple[Any, Any]:
        """Return the Sigstore instance and an OIDC token for it.

        Raises:
            InputError: no token here, a `trust` that cannot be read, or libraries are missing.
            RemoteError: the token's issuer refused.
            RetryableError: the issuer, or the instance's keys (TUF), cannot be reached.
        """
        with require_libraries():
            import model_signing  # noqa: F401 - missing libraries are told before any work
            from sigstore import oidc
        with _answers():
            raw = oidc.detect_credential()
            if raw is None and not sys.stdin.isatty():
                raise InputError(NO_CREDENTIAL)
            trusted = load_trust_config(self.trust, refresh=True)
            issuer = trusted.signing_config.get_oidc_url()
            token = oidc.IdentityToken(raw) if raw else oidc.Issuer(issuer).identity_token()
        return trusted, token

    def write(self, ready: tuple[Any, Any], bundle: Path, statement: dict[str, Any], folder: Path) -> Identity:
        """Write signature and provenance of a bundle to a folder, verify them, and return as whom it was signed.

        Raises:
            RemoteError: Sigstore refused, or does not answer as it should.
            RetryableError: it cannot be reached, or the token expired.
            IntegrityError: what it issued does not verify.
        """
        from cryptography import x509
        from model_signing import signing
        from sigstore.dsse import Statement
        from sigstore.sign import SigningContext

        trusted, token = ready
        with _answers(), trust_config_file(trusted) as file:
            config = signing.Config().use_sigstore_signer(identity_token=str(token), trust_config=file)
            config.set_hashing_config(hashing_config()).sign(bundle, folder / SIGNATURE)
            with SigningContext.from_trust_config(trusted).signer(token) as signer:
                signed = signer.sign_dsse(Statement(provenance.payload(statement)))
        (folder / PROVENANCE).write_text(signed.to_json(), encoding="utf-8")
        names = signed.signing_certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identity = Identity(str(names[0].value), token.federated_issuer, self.trust)
        signature.verify(bundle, identity, folder)
        return identity


@contextmanager
def _answers() -> Iterator[None]:
    """Turn what Sigstore's client raises into a refusal or a reason to try again."""
    try:
        yield
    except FoundryError:
        raise
    except Exception as error:
        if (refused := _refused(error)) is None:
            raise
        raise refused from error


def _refused(error: Exception) -> FoundryError | None:
    """Say what an error of Sigstore's client means, by what caused it; None if it is about this machine."""
    import id as ambient
    import requests
    import urllib3
    from sigstore.errors import VerificationError
    from sigstore.oidc import ExpiredIdentity

    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and isinstance(cause, Exception):
        causes.append(cause)
    for cause in causes:
        said = " ".join(str(cause).split()) or type(cause).__name__
        if isinstance(cause, requests.HTTPError) and cause.response is not None:
            text = " ".join(cause.response.text.split())[:300]
            if cause.response.status_code in RETRIED:
                return RetryableError(f"Sigstore is unavailable ({said}: {text}). Nothing was signed; run again.")
            return RemoteError(f"Sigstore refused ({said}: {text}). Nothing was signed.")
        if isinstance(cause, requests.ConnectionError | requests.Timeout | urllib3.exceptions.HTTPError):
            return RetryableError(f"Sigstore cannot be reached ({said}). Nothing was signed; run again.")
        if isinstance(cause, ExpiredIdentity):
            return RetryableError("the OIDC token expired before it was used. Nothing was signed; run again.")
        if isinstance(cause, VerificationError):
            return IntegrityError(f"what Sigstore issued does not verify ({said}). Nothing was signed; check --trust.")
        if isinstance(cause, ambient.IdentityError) and UNAVAILABLE.search(said):
            return RetryableError(f"the OIDC token's issuer is unavailable ({said}). Nothing was signed; run again.")
        if isinstance(cause, ambient.GitHubOidcPermissionCredentialError):
            return InputError(f"{NO_CREDENTIAL} ({said})")
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return None
    return RemoteError(
        f"Sigstore, or the token's issuer, refused ({' '.join(str(error).split())}). Nothing was signed."
    )
