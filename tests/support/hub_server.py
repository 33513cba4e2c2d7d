"""A local server that speaks the model hub's protocol, as huggingface_hub asks for it, and that can misbehave.

Small files come from the hub itself, named by git's SHA-1; the others by a redirect to a second server, the file store,
named by SHA-256, as Git LFS does it. Every request is recorded.
"""

import gzip
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Self

from support.local_server import LocalServer, reply

ALWAYS = 10**9


@dataclass
class Fault:
    """One misbehaviour.

    Attributes:
        endpoint: which requests: api (the listing), head (a file's headers), file (its bytes).
        name: of which file; None is any.
        times: how often, then the server behaves.
        status: answer with this status, and `headers` and `body`, instead.
        cut: close the connection after so many bytes of the body.
        corrupt: send other bytes of the same size.
        ignore_range: send the whole file, whatever range the request names.
        drop_etag: leave out the ETag.
        gzipped: compress the body.
        stall_s: seconds of silence before the answer.
        size: declare this size.
    """

    endpoint: str
    name: str | None = None
    times: int = ALWAYS
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    corrupt: bool = False
    ignore_range: bool = False
    drop_etag: bool = False
    gzipped: bool = False
    stall_s: float = 0
    size: int | None = None


@dataclass
class Hit:
    """One request that the server received."""

    endpoint: str
    name: str | None
    range: str | None
    authorization: str | None


class HubServer(LocalServer):
    """One repository at one commit, with its file store; use as a context manager.

    Attributes:
        repository_type: models or datasets.
        files: name to bytes.
        branches: names of the commit, beside its own.
        gated: what the hub says of the repository: False, "auto" or "manual".
        faults: what goes wrong, in order of preference; change it at any time.
        hits: the requests so far.
    """

    def __init__(
        self, repo: str, revision: str, files: dict[str, bytes], large: int = 1000, repository_type: str = "models"
    ) -> None:
        self.repo, self.revision, self.files, self.large = repo, revision, files, large
        self.repository_type = repository_type
        self.branches = {"main"}
        self.gated: bool | str = False
        self.faults: list[Fault] = []
        self.hits: list[Hit] = []
        super().__init__(self._answer)
        self._store = LocalServer(self._answer)
        self.store = self._store.url

    def __enter__(self) -> Self:
        self._store.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._store.__exit__()

    def count(self, endpoint: str, name: str | None = None) -> int:
        return sum(hit.endpoint == endpoint and name in (None, hit.name) for hit in self.hits)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        # Files of a model stand at the root, those of a dataset under datasets/.
        files = f"/{self.repo}" if self.repository_type == "models" else f"/{self.repository_type}/{self.repo}"
        listing = f"/api/{self.repository_type}/{self.repo}/revision/"
        if path.startswith(listing) and path.removeprefix(listing) in {self.revision, *self.branches}:
            self._serve(request, "api", None)
        elif match := re.fullmatch(f"{files}/resolve/{self.revision}/(.+)|/store/(.+)", path):
            name = match[1] or match[2]
            if request.command == "GET" and match[1] and len(self.files.get(name, b"")) >= self.large:
                reply(request, 302, {"Location": f"{self.store}/store/{name}"}, b"")
            else:
                self._serve(request, "head" if request.command == "HEAD" else "file", name)
        elif path.startswith((f"/api/{self.repository_type}/{self.repo}/", f"{files}/")):
            self._refuse(request, 404, {"X-Error-Code": "RevisionNotFound"})
        else:
            self._refuse(request, 404, {"X-Error-Code": "RepoNotFound"})

    def _serve(self, request: BaseHTTPRequestHandler, endpoint: str, name: str | None) -> None:
        self.hits.append(Hit(endpoint, name, request.headers.get("Range"), request.headers.get("Authorization")))
        fault = next(
            (f for f in self.faults if f.endpoint == endpoint and f.name in (None, name) and f.times > 0),
            Fault(endpoint),
        )
        fault.times -= 1
        time.sleep(fault.stall_s)
        if fault.status:
            self._refuse(request, fault.status, fault.headers, fault.body)
        elif endpoint == "api":
            self._send_listing(request, fault)
        elif name not in self.files:
            self._refuse(request, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.revision})
        elif endpoint == "head":
            self._send_headers(request, name, fault)
        else:
            self._send_file(request, self.files[name], fault)

    def _send_listing(self, request: BaseHTTPRequestHandler, fault: Fault) -> None:
        siblings = []
        for name, data in self.files.items():
            entry = {"rfilename": name, "size": fault.size or len(data), "blobId": _git_sha1(data)}
            if len(data) >= self.large:
                entry["lfs"] = {"sha256": _sha256(data), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        body = json.dumps({"id": self.repo, "sha": self.revision, "gated": self.gated, "siblings": siblings}).encode()
        reply(request, 200, {"Content-Type": "application/json"}, body)

    def _send_headers(self, request: BaseHTTPRequestHandler, name: str, fault: Fault) -> None:
        data = self.files[name]
        headers = {"X-Repo-Commit": self.revision, "ETag": f'"{_git_sha1(data)}"'}
        status, size = 200, str(fault.size or len(data))
        if len(data) >= self.large:
            headers |= {"X-Linked-Etag": f'"{_sha256(data)}"', "X-Linked-Size": size}
            headers["Location"] = f"{self.store}/store/{name}"
            # The hub also offers its Xet storage, which this server lacks: a client that uses it fails.
            headers |= {"X-Xet-Hash": _sha256(data), "X-Xet-Refresh-Route": f"{self.url}/xet-token"}
            status = 302
        if fault.drop_etag:
            headers = {key: value for key, value in headers.items() if not key.lower().endswith("etag")}
        reply(request, status, headers | {"Content-Length": size if status == 200 else "0"}, b"")

    def _send_file(self, request: BaseHTTPRequestHandler, data: bytes, fault: Fault) -> None:
        body = data[:-1] + bytes([data[-1] ^ 1]) if fault.corrupt else data
        headers, status, first, end = {}, 200, 0, len(body)
        if (requested := request.headers.get("Range")) and not fault.ignore_range:
            start, _, last = requested.removeprefix("bytes=").partition("-")
            first, end, status = int(start), min(len(body), int(last) + 1) if last else len(body), 206
            if first >= len(body):
                return self._refuse(request, 416, {"Content-Range": f"bytes */{len(body)}"})
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
        body = body[first:end]
        if fault.gzipped:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        reply(request, status, headers, body, fault.cut)

    def _refuse(
        self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes | None = None
    ) -> None:
        # Like a careless proxy, it repeats the credentials it was given.
        body = body or json.dumps({"error": f"no: {request.headers.get('Authorization')}"}).encode()
        reply(request, status, {"Content-Type": "application/json", **headers}, body)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - as git names blobs
