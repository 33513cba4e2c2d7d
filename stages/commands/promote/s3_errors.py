"""Translates S3's errors to this project's messages and exit codes."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions
from embed_foundry import InputError, IntegrityError, RemoteError, RetryableError
from embed_foundry.errors import FoundryError

# The bytes that arrived do not match the checksum that was sent.
CORRUPTED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
NEXT_STEPS = {
    "NoSuchBucket": "Create the bucket, or correct --store",
    "PermanentRedirect": "Set AWS_REGION to the bucket's region, or correct --endpoint",
    "AuthorizationHeaderMalformed": "Set AWS_REGION to the bucket's region",
    "NotImplemented": "This server lacks conditional writes or checksums, which safety depends on; use another",
    "RequestTimeTooSkewed": "Set this machine's clock",
}
NEXT_STEPS |= dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), "Get new credentials")
CHECK_CREDENTIALS = (
    "Check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) and the bucket's policy"
)
# No answer, or an incomplete one.
BROKEN_CONNECTION = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)
# 4xx answers that another try may change.
BUSY = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "OperationAborted",
}


def error_code(error: exceptions.ClientError) -> str:
    """Return S3's name of an error; for a HEAD request, whose answer has no body, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status(error: exceptions.ClientError) -> int:
    """Return the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def translate_errors(address: str, action: str) -> Iterator[None]:
    """Raise this project's errors in place of botocore's; no message holds a credential.

    Args:
        address: the store's.
        action: what was tried, such as "write channels/stable.json".
    """
    try:
        yield
    except exceptions.ClientError as error:
        raise _translate(error, address, action) from None
    except exceptions.FlexibleChecksumError:
        raise IntegrityError(
            f"{address}: {action}: the bytes that arrived do not match the store's checksum. "
            "Run again; if it persists, a proxy or the store's disk is broken."
        ) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound) as error:
        raise InputError(f"{address}: {error} {CHECK_CREDENTIALS}.") from None
    except BROKEN_CONNECTION as error:
        raise RetryableError(
            f"{address}: {action}: unavailable ({type(error).__name__}), even after retries. "
            "Check the endpoint and the network, then run the same command again; what is uploaded is kept."
        ) from None
    except exceptions.BotoCoreError as error:
        raise InputError(f"{address}: {action}: {error} Correct boto3's configuration.") from None


def _translate(error: exceptions.ClientError, address: str, action: str) -> FoundryError:
    code, status = error_code(error), http_status(error)
    message = f"{address}: {action}: {code if code != str(status) else 'refused'} (HTTP {status})"
    if code in CORRUPTED:
        return IntegrityError(f"{message}: the bytes that arrived are not the bytes that were sent. Run again.")
    if code in BUSY or status in (409, 429) or (status >= 500 and code != "NotImplemented"):
        return RetryableError(
            f"{message}, even after retries. Run the same command again later; what is uploaded is kept."
        )
    return RemoteError(f"{message}. {NEXT_STEPS.get(code, CHECK_CREDENTIALS)}.")
