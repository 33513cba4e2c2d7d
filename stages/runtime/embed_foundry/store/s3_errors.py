"""Translates S3's errors to this project's messages and exit codes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions
from botocore.parsers import ResponseParserError

from ..errors import FoundryError, InputError, IntegrityError, RemoteError, RetryableError
from .s3_answers import TRANSIENT_TLS, refuse

# The bytes that arrived do not match the checksum that was sent.
CORRUPTED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
NEXT_STEPS = {
    "NoSuchBucket": "Create the bucket, or correct --store",
    "KeyTooLongError": "Shorten the prefix in --store",
    "PermanentRedirect": "Set AWS_REGION to the bucket's region, or correct --endpoint",
    "AuthorizationHeaderMalformed": "Set AWS_REGION to the bucket's region",
    "NotImplemented": "This server lacks conditional writes or checksums, which safety depends on; use another",
    "RequestTimeTooSkewed": "Set this machine's clock",
}
NEXT_STEPS |= dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), "Get new credentials")
CHECK_CREDENTIALS = (
    "Check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) and the bucket's policy"
)
CANNOT_BE_SENT = (
    "no request can be made: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN hold letters that no header "
    "can, such as the end of a line, or HTTP_PROXY is no address. Correct them."
)
NOT_S3 = (
    "The answer has no S3 error code, so it is no S3 server's: correct --endpoint, or check the proxy in front of it"
)
# No answer, or an incomplete one.
BROKEN_CONNECTION = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)
# Backblaze B2 refuses checksums so, with code InvalidArgument.
UNSUPPORTED_HEADER = re.compile(r"(?i)unsupported header|x-amz-checksum")
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
    except exceptions.SSLError as error:
        if TRANSIENT_TLS.search(str(error)):
            raise _unavailable(error, address, action) from None
        raise RemoteError(
            f"{address}: {action}: no TLS connection ({_one_line(error.kwargs['error'])}). Correct --endpoint (http:// "
            "for a port without TLS), or name your authority's certificates in AWS_CA_BUNDLE."
        ) from None
    except BROKEN_CONNECTION as error:
        if isinstance(error.kwargs.get("error"), ValueError | TypeError):  # of http.client
            raise InputError(f"{address}: {action}: {CANNOT_BE_SENT}") from None
        raise _unavailable(error, address, action) from None
    except exceptions.PaginationError:
        raise refuse(address, "the same page again and again") from None
    except UnicodeEncodeError:
        raise InputError(f"{address}: {action}: {CANNOT_BE_SENT}") from None
    except exceptions.BotoCoreError as error:
        raise InputError(f"{address}: {action}: {_one_line(error)} Correct boto3's configuration.") from None
    except (ResponseParserError, KeyError, ValueError) as error:  # botocore reads answers without checking them
        raise RetryableError(
            f"{address}: {action}: the answer broke off, or is not S3's ({type(error).__name__}). "
            "Run again; if it persists, correct --endpoint."
        ) from error


def _unavailable(error: exceptions.BotoCoreError, address: str, action: str) -> RetryableError:
    return RetryableError(
        f"{address}: {action}: unavailable ({type(error).__name__}), even after retries. "
        "Check the endpoint and the network, then run the same command again; what is uploaded is kept."
    )


def _translate(error: exceptions.ClientError, address: str, action: str) -> FoundryError:
    code, status = error_code(error), http_status(error)
    message = f"{address}: {action}: {code if code != str(status) else 'refused'} (HTTP {status})"
    if code in CORRUPTED:
        return IntegrityError(f"{message}: the bytes that arrived are not the bytes that were sent. Run again.")
    if code in BUSY or status in (409, 429) or (status >= 500 and code != "NotImplemented"):
        return RetryableError(
            f"{message}, even after retries. Run the same command again later; what is uploaded is kept."
        )
    return RemoteError(f"{message}{_quote(error)}. {_next_step(error)}.")


def _next_step(error: exceptions.ClientError) -> str:
    code, status = error_code(error), http_status(error)
    if UNSUPPORTED_HEADER.search(_quote(error)):
        return NEXT_STEPS["NotImplemented"]
    if 300 <= status < 400:
        return NEXT_STEPS["PermanentRedirect"]
    if code == str(status) and not error.operation_name.startswith("Head"):  # answers to HEAD have no body
        return NOT_S3
    return NEXT_STEPS.get(code, CHECK_CREDENTIALS)


def _quote(error: exceptions.ClientError) -> str:
    """Return the server's own words, bounded, or nothing if botocore made them up from the status."""
    if error_code(error) == str(http_status(error)):
        return ""
    text = _one_line(error.response.get("Error", {}).get("Message", ""))
    return f': "{text[:200]}"' if text else ""


def _one_line(text: object) -> str:
    return "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable())
