"""What a hub's final answers mean, each with the next step; neither the token nor the reply's text is repeated."""

from embed_foundry.errors import FoundryError, IntegrityError, RemoteError
from huggingface_hub import errors

from stages.common.config import Model


def place(model: Model, endpoint: str) -> str:
    """Return how messages call a model's commit at a hub."""
    return f"{model.repo}@{model.revision[:12]} at {endpoint}"


def refusal(error: Exception, model: Model, endpoint: str, token: str) -> FoundryError | None:
    """Return the error that says why the hub will never give this; None if it may later.

    Args:
        error: what huggingface_hub raised.
        model: what was asked for.
        endpoint: the hub's address.
        token: what the question was asked with, in words.
    """
    while isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # "cannot find the file in the cache" hides what happened
    where, page, code = place(model, endpoint), f"{endpoint}/{model.repo}", status(error)
    if isinstance(error, errors.FileMetadataError):
        return IntegrityError(f"{where}: the answer names no commit, ETag or size. Check HF_ENDPOINT and proxies.")
    if isinstance(error, errors.RevisionNotFoundError):
        return RemoteError(f"{where}: no such commit (HTTP {code}). Correct model.revision: {page}/commits/main")
    if isinstance(error, errors.EntryNotFoundError) and code:
        return RemoteError(f"{where}: no such file at this commit (HTTP {code}). Correct model.files.")
    if isinstance(error, errors.GatedRepoError) or (model.license.gated and code in {401, 403}):
        return RemoteError(
            f"{where}: gated (HTTP {code}), asked with {token}. Accept the licence {model.license.name} at {page} "
            "and set HF_TOKEN to a token of that account which may read gated repositories."
        )
    if code in {401, 403}:
        return RemoteError(
            f"{where}: access refused (HTTP {code}), asked with {token}: no such repository, a private one, "
            "or a bad token. Correct model.repo, or set HF_TOKEN to a token that may read it."
        )
    if code == 404:
        return RemoteError(f"{where}: no such repository (HTTP 404), asked with {token}. Correct model.repo.")
    if code and 400 <= code < 500 and code not in {408, 416, 429}:
        return RemoteError(f"{where}: refused (HTTP {code}). Check model.repo, model.revision and HF_ENDPOINT.")
    return None


def status(error: Exception) -> int | None:
    """Return the HTTP status of an error, None if there was no answer."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None
