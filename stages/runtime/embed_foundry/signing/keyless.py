"""Signing without a key: Sigstore issues a ten-minute certificate to the owner of an OIDC token, and logs its use.

The token is CI's own (GitHub: `id-token: write`), or a person's, by the browser.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FoundryError, InputError, IntegrityError, RemoteError, RetryableError, one_line
from ..manifest import JsonObject
from ..signer import Identity, load_trust_config
from .key_pair import encode_statement
from .libraries import require_libraries

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
class Login:
    """An OIDC token and the Sigstore instance that takes it.

    Attributes:
        trusted: the instance.
        token: the token.
        trust: the instance's ClientTrustConfig (JSON); None is the public one.
    """

    trusted: "ClientTrustConfig"
    token: "IdentityToken"
    trust: Path | None

    def sign(self, statement: JsonObject) -> tuple[str, Identity]:
        """Return a statement in a Sigstore bundle, as JSON, and who signed.

        Raises:
            RemoteError, RetryableError, IntegrityError: see `log_in`.
        """
        from cryptography import x509
        from sigstore.dsse import Statement as DsseStatement
        from sigstore.sign import SigningContext

        with translate_errors(), SigningContext.from_trust_config(self.trusted).signer(self.token) as signer:
            signed = signer.sign_dsse(DsseStatement(encode_statement(statement)))
        names = signed.signing_certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return signed.to_json(), Identity(str(names[0].value), self.token.federated_issuer, self.trust)


def require_token() -> str | None:
    """Return the OIDC token of this CI job; None where a person can get one by the browser.

    Raises:
        InputError: there is neither, or libraries are missing.
        RemoteError, RetryableError: the token's issuer refused, or cannot be reached.
    """
    with require_libraries():
        from sigstore import oidc
    with translate_errors():
        raw_token: str | None = oidc.detect_credential()
    if raw_token is None and not sys.stdin.isatty():
        raise InputError(WITHOUT_OIDC)
    return raw_token


def log_in(trust: Path | None = None) -> Login:
    """Get an OIDC token for a Sigstore instance.

    Args:
        trust: the ClientTrustConfig (JSON) of an instance of one's own; None is the public one, whose log anybody can
            read.

    Raises:
        InputError: there is no token here, `trust` cannot be read, or libraries are missing.
        RemoteError: the token's issuer refused, or answers otherwise than it should.
        RetryableError: the issuer, or the instance's keys (TUF), cannot be reached, or the token expired.
    """
    with require_libraries():
        from sigstore import oidc
    raw_token = require_token()
    with translate_errors():
        trusted = load_trust_config(trust, refresh=True)
        issuer = trusted.signing_config.get_oidc_url()
        token = oidc.IdentityToken(raw_token) if raw_token else oidc.Issuer(issuer).identity_token()
    return Login(trusted, token, trust)


@contextmanager
def translate_errors() -> Iterator[None]:
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
