"""A web server of static files, as a page's host: with or without the headers that isolate a page, fast or slow."""

import time
from http.server import BaseHTTPRequestHandler
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import unquote, urlsplit

from support.local_server import LocalServer, reply

ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
BLOCK = 1 << 16


class WebServer(LocalServer):
    """Serves a folder.

    Attributes:
        requests: names of the files that were asked for.
        altered: name -> the bytes that are sent in a file's place.
        pause_s: seconds between two blocks of 64 KiB of a file of weights.
    """

    def __init__(self, folder: Path, *, isolated: bool = False) -> None:
        self.requests: list[str] = []
        self.altered: dict[str, bytes] = {}
        self.pause_s = 0.0
        self._folder = folder
        self._headers = {"Cache-Control": "no-store", **(ISOLATED if isolated else {})}
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name = unquote(urlsplit(request.path).path).lstrip("/")
        self.requests.append(name)
        path = self._folder / name
        if not path.is_file():
            reply(request, 404, self._headers, b"")
            return
        kind = TYPES.get(path.suffix) or guess_type(name)[0] or "application/octet-stream"
        content = self.altered.get(name) or path.read_bytes()
        if not self.pause_s or not name.endswith((".onnx", ".safetensors")):
            reply(request, 200, {**self._headers, "Content-Type": kind}, content)
            return
        request.send_response(200)
        for key, value in {**self._headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            request.send_header(key, value)
        request.end_headers()
        for start in range(0, len(content), BLOCK):
            time.sleep(self.pause_s)
            try:
                request.wfile.write(content[start : start + BLOCK])
            except ConnectionError:  # the page cancelled
                return
