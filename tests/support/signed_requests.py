"""A server that checks requests as S3 does, by their signature (AWS SigV4), and records them; it holds nothing.

Other names of buckets than SeaweedFS takes go to it, as HTTP_PROXY for any host name.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from support.local_server import LocalServer, read_body, reply

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<headers>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)
SESSION = (
    b"<CreateSessionResult><Credentials><SessionToken>token</SessionToken><SecretAccessKey>session-secret"
    b"</SecretAccessKey><AccessKeyId>session</AccessKeyId><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>"
    b"</CreateSessionResult>"
)
EMPTY = {
    "list-type": b"<ListBucketResult><Name>x</Name><IsTruncated>false</IsTruncated></ListBucketResult>",
    "uploads": b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>",
    "session": SESSION,
}


@dataclass(frozen=True)
class SignedRequest:
    """A request whose signature was right.

    Attributes:
        host: as in its Host header.
        target: path and query, as received.
        region: that the signature names.
        service: that the signature names.
    """

    host: str
    target: str
    region: str
    service: str


class SignedRequests(LocalServer):
    """The server; use in `with`. `secrets` are by access key; `received` are the requests with right signatures."""

    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets = secrets | {"session": "session-secret"}
        self.received: list[SignedRequest] = []
        super().__init__(self.handle)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Refuse a wrong signature; otherwise answer that there is nothing."""
        body = read_body(handler)
        url = urlsplit(handler.path)  # whole, as a proxy receives it
        match = AUTHORIZATION.fullmatch(handler.headers.get("Authorization", ""))
        if match is None or match["signature"] != self.sign(match, handler, url.path or "/", url.query):
            reply(handler, 403, {}, b"<Error><Code>SignatureDoesNotMatch</Code><Message>wrong</Message></Error>")
            return
        assert handler.headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
        target = f"{url.path}?{url.query}" if url.query else url.path
        self.received.append(SignedRequest(handler.headers["Host"], target, match["region"], match["service"]))
        for parameter, answer in EMPTY.items():
            if parameter in url.query:
                reply(handler, 200, {"Content-Type": "application/xml"}, answer)
                return
        reply(handler, 404, {}, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

    def sign(self, match: re.Match[str], handler: BaseHTTPRequestHandler, path: str, query: str) -> str:
        """Return the signature that a request should have, from what was received."""
        names = match["headers"].split(";")
        pairs = sorted((part.partition("=")[0], part.partition("=")[2]) for part in query.split("&") if part)
        canonical = [handler.command, path, "&".join(f"{name}={value}" for name, value in pairs)]
        canonical += [f"{name}:{' '.join(handler.headers[name].split())}" for name in names]
        canonical += ["", match["headers"], handler.headers["x-amz-content-sha256"]]
        scope = f"{match['day']}/{match['region']}/{match['service']}/aws4_request"
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", handler.headers["x-amz-date"], scope, digest])
        key = f"AWS4{self.secrets[match['key']]}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()
