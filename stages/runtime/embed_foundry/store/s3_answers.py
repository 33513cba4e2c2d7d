"""Ends requests that botocore would follow, repeat or misread: answers that are not S3's, and no answer at all.

botocore looks for a region in every redirect, without end; it takes a web page for an empty list; and it waits for a
silent server six times.
"""

import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import SSLError

from ..errors import RemoteError

REGION = re.compile(r"[A-Za-z0-9-]{1,63}")
REDIRECTS = {301, 302, 303, 307, 308}
# Every listing and every step of a multipart upload answers with XML, whose first element ends so, or is an error.
XML = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<(?:\w+:)?(?:\w*Result|Error)[\s/>]")
WITH_XML = {
    "CompleteMultipartUpload",
    "CreateMultipartUpload",
    "ListMultipartUploads",
    "ListObjectsV2",
    "ListParts",
}
MEDIA_TYPE = re.compile(r"[\w/+.-]{1,60}")
WITH_OBJECT = {"GetObject", "HeadObject"}
CONNECT_S = 10
# How long to wait for an answer's next bytes. A server may be long about joining many parts.
READ_S = 15
COMPLETE_S = 45
# After so long without an answer a request is not repeated once more: a command ends within a minute.
GIVE_UP_S = 20
# Other TLS errors are permanent: the certificate, or a port that does not speak TLS.
TRANSIENT_TLS = re.compile(r"\bEOF\b|timed out|reset")
STARTED = "embed_foundry_started"


def guard(client: Any, address: str) -> None:  # noqa: ANN401 - boto3's clients have no type
    """Register what this module does with an S3 client; `address` is the store's, for messages.

    Requests then raise RemoteError if the answer is not one that S3 gives.
    """
    client.meta.events.register("before-call.s3", _set_times)
    # First, since botocore answers a redirect with a request of its own.
    client.meta.events.register_first("needs-retry.s3", partial(_check, address))


def refuse(address: str, answer: str) -> RemoteError:
    """Return the error for an answer that is not S3's."""
    return RemoteError(
        f"{address}: the endpoint answers with {answer}, which no S3 server does. "
        "Correct --endpoint or AWS_ENDPOINT_URL: it must be the S3 API's address, not a web console's."
    )


def _set_times(model: Any, context: dict[str, Any], **_: object) -> None:  # noqa: ANN401
    context[STARTED] = time.monotonic()
    if model.name == "CompleteMultipartUpload":
        context["read_timeout"] = COMPLETE_S


def _check(
    address: str,
    operation: Any,  # noqa: ANN401
    request_dict: Mapping[str, Any],
    response: tuple[Any, Mapping[str, Any]] | None,
    caught_exception: Exception | None,
    **_: object,
) -> None:
    """Raise what ends the request; otherwise botocore decides whether to repeat it."""
    if response is not None:
        _refuse_redirect(address, *response)
        _require_s3_answer(address, operation.name, response[0])
    if caught_exception is None:
        return
    permanent = isinstance(caught_exception, SSLError) and not TRANSIENT_TLS.search(str(caught_exception))
    if permanent or time.monotonic() - request_dict["context"][STARTED] > GIVE_UP_S:
        raise caught_exception


def _refuse_redirect(address: str, response: Any, parsed: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Refuse a redirect that names no region; botocore follows the others."""
    headers = {key.lower(): value for key, value in response.headers.items()}
    region = str(headers.get("x-amz-bucket-region") or parsed.get("Error", {}).get("Region", ""))
    if response.status_code not in REDIRECTS or REGION.fullmatch(region):
        return
    target = urlsplit(str(headers.get("location", "")))
    where = f" to {target.scheme}://{target.hostname}" if target.hostname else ""
    raise RemoteError(
        f"{address}: the endpoint redirects{where} (HTTP {response.status_code}) and names no region. "
        "Correct --endpoint or AWS_ENDPOINT_URL, or set AWS_REGION to the bucket's region."
    )


def _require_s3_answer(address: str, operation: str, response: Any) -> None:  # noqa: ANN401
    if response.raw.status >= 300:  # `status_code` is 500 where botocore could not parse a body
        return
    headers = {key.lower(): value for key, value in response.headers.items()}
    kind = MEDIA_TYPE.match(str(headers.get("content-type", "")))
    answer = kind[0] if kind else "something else"
    if operation in WITH_XML and not XML.match(response.content):
        length = str(headers.get("content-length", ""))
        if not (length.isdigit() and len(response.content) < int(length)):  # else it broke off, and is sent again
            raise refuse(address, answer)
    if operation in WITH_OBJECT and not {"etag", "content-length"} <= headers.keys():
        raise refuse(address, f"{answer} without an ETag or a length")
