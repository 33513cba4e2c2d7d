"""GET / for browsers: one page, without a network beyond this service, to compare texts on."""

import base64
import hashlib
import re
from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

PAGE = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")


def router() -> APIRouter:
    """Return the route of the page. It needs no key; the calls that it makes do."""
    routes = APIRouter()
    headers = {
        "Content-Security-Policy": _make_policy(PAGE),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "Vary": "Accept",  # other clients get Ollama's line here
    }

    @routes.get("/", include_in_schema=False)
    async def read_page() -> HTMLResponse:
        return HTMLResponse(PAGE, headers=headers)

    return routes


def _make_policy(page: str) -> str:
    """Return the Content-Security-Policy under which nothing but this page's own style and script runs."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {_hash_elements(page, 'style')}",
            f"script-src {_hash_elements(page, 'script')}",
            "connect-src 'self'",
            "img-src data:",  # its empty icon
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


def _hash_elements(page: str, name: str) -> str:
    """Return the sources of a page's inline elements, as a policy names them: 'sha256-…'."""
    contents = re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests)
