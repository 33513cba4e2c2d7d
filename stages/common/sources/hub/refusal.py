"""What a hub's final answers mean; neither the token nor the reply's text is repeated."""

from embed_foundry.errors import RemoteError
from huggingface_hub import errors

from stages.common.sources.hub.repository import Guidance, Reason, Refusal, Repository

# Client errors that a later try may not meet.
RETRYABLE = (408, 416, 429)


def refusal_error(
    error: Exception, repository: Repository, guidance: Guidance, endpoint: str, token: str
) -> RemoteError | None:
    """Return the error that says why the hub will never serve this; None if it may later.

    Args:
        error: what huggingface_hub raised.
        repository: the repository of the request.
        guidance: what messages about it say.
        endpoint: the hub's address.
        token: words for the token that the request carried.
    """
    code = http_status(error)
    reason = _reason(error, code, guidance.gated_codes) if code else None
    if code is None or reason is None:
        return None
    return RemoteError(
        f"{guidance.label} at {endpoint}: {guidance.explain(Refusal(reason, code, repository.page(endpoint), token))}"
    )


def http_status(error: Exception) -> int | None:
    """Return the HTTP status of an error, None if there was no answer."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def _reason(error: Exception, code: int, gated_codes: frozenset[int]) -> Reason | None:
    if isinstance(error, errors.RevisionNotFoundError):
        return Reason.NO_COMMIT
    if isinstance(error, errors.EntryNotFoundError):
        return Reason.NO_FILE
    if isinstance(error, errors.GatedRepoError) or code in gated_codes:
        return Reason.GATED
    if code in {401, 403}:
        return Reason.DENIED
    if code == 404:
        return Reason.NO_REPOSITORY
    return Reason.OTHER if 400 <= code < 500 and code not in RETRYABLE else None
