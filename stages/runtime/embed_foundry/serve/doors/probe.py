"""GET / as Ollama answers it."""

from fastapi import Response
from fastapi.responses import PlainTextResponse
from starlette.routing import Match, Route
from starlette.types import Scope


class ProbeRoute(Route):
    """GET / for clients that ask whether Ollama runs. Browsers, which accept HTML, get the page that follows."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Leave a browser's request to later routes."""
        accepted = next((value for name, value in scope.get("headers", ()) if name == b"accept"), b"")
        return (Match.NONE, {}) if b"text/html" in accepted else super().matches(scope)


async def _say_running(_request: object) -> Response:
    return PlainTextResponse("Ollama is running")


def make_route() -> Route:
    """Return the route of GET and HEAD /; it goes into the application itself, for a router would copy it."""
    return ProbeRoute("/", _say_running, methods=["GET"], include_in_schema=False)
