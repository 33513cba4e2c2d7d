"""What S3 answers, in the words and exit codes of this project."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions
from embed_foundry import InputError, IntegrityError, RemoteError, RetryableError
from embed_foundry.errors import FoundryError

# Bytes that arrived are not those whose checksum was sent.
CORRUPTED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
NEXT = {
    "NoSuchBucket": "Create the bucket, or correct --store",
    "PermanentRedirect": "Set AWS_REGION to the bucket's region, or correct --endpoint",
    "AuthorizationHeaderMalformed": "Set AWS_REGION to the bucket's region",
    "NotImplemented": "This server lacks conditional writes or checksums, without which nothing is safe; use another",
    "RequestTimeTooSkewed": "Set this machine's clock",
}
NEXT |= dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), "Get new credentials")
CREDENTIALS = "Check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) and the bucket's policy"
# No answer, or one that broke off.
BROKEN_OFF = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)
# 4xx answers that another try may change.
BUSY = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "OperationAborted",
}


def code(error: exceptions.ClientError) -> str:
    """Return S3's name of an error; for a HEAD request, which has no body, the status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status(error: exceptions.ClientError) -> int:
    """Return the HTTP status."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def explained(where: str, doing: str) -> Iterator[None]:
    """Turn botocore's errors into this project's; no message holds a credential.

    Args:
        where: the store's address.
        doing: what was tried, such as "write channels/stable.json".
    """
    try:
        yield
    except exceptions.ClientError as error:
        raise _refused(error, where, doing) from None
    except exceptions.FlexibleChecksumError:
        raise IntegrityError(
            f"{where}: {doing}: the bytes that came are not those that the store has a checksum of. "
            "Run again; if it stays, a proxy or the store's disk is broken."
        ) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound) as error:
        raise InputError(f"{where}: {error} {CREDENTIALS}.") from None
    except BROKEN_OFF as error:
        raise RetryableError(
            f"{where}: {doing}: unavailable ({type(error).__name__}), also after retries. "
            "Check the endpoint and the network, then run the same command again; what is uploaded stays."
        ) from None
    except exceptions.BotoCoreError as error:
        raise InputError(f"{where}: {doing}: {error} Correct boto3's configuration.") from None


def _refused(error: exceptions.ClientError, where: str, doing: str) -> FoundryError:
    name, number = code(error), status(error)
    said = f"{where}: {doing}: {name if name != str(number) else 'refused'} (HTTP {number})"
    if name in CORRUPTED:
        return IntegrityError(f"{said}: the bytes that arrived are not those that were sent. Run again.")
    if name in BUSY or number in (409, 429) or (number >= 500 and name != "NotImplemented"):
        return RetryableError(f"{said}, also after retries. Run the same command again later; what is uploaded stays.")
    return RemoteError(f"{said}. {NEXT.get(name, CREDENTIALS)}.")
