"""The HTTP application: every door, and the routers that operators use, on one service."""

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from uuid import uuid4

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .admission import Admission
from .doors import probe
from .doors.door import internal_error
from .doors.places import ROUTERS, find_dialect
from .refusals import METHOD_NOT_ALLOWED, NOT_FOUND, Reason, RefusalError
from .service import Service

DESCRIPTION = """\
Embeddings from one verified release, in the APIs of OpenAI, Ollama, text-embeddings-inference, Cohere and akidb.

**Models.** `model` is a variant, an alias, the model's name or `auto`, which takes the best variant that runs here.
`:PROMPT` after it names a prompt: `auto:query`. `GET /v1/models` lists the names.

**Vectors** are of unit length. Every answer names the vector space in `X-Space-Id`; send the space of your index as
`X-Expect-Space-Id`, and vectors of another space are refused with 409. A text over the token limit is truncated, and
`X-Truncated` names it; TEI's API refuses it by default, and the others on request.

**Fewer bytes.** `float16` errs by at most 2^-12 a value. `int8` is round(127 x) and `uint8` is int8 + 128: the scale is
fixed, so that a text's bytes depend on no other text. `ubinary` packs one bit a value, 1 where x > 0, the first value
in the highest bit of the first byte; `binary` is ubinary - 128. docs/service.md has what each one costs in search.

**Refusals** are written as each API documents them. `X-Reason` has the reason in one word, `X-Should-Retry` whether the
same request may succeed later, and `Retry-After` when. A field that an API does not have is refused, not ignored.
"""
REQUEST_ID = "X-Request-Id"
LONGEST_ID = 128


class RequestIds:
    """Names every request: by the client's X-Request-Id, or a random one. Logs read it in the scope's state.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and add its id to the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        fine = given.isascii() and given.isprintable() and 0 < len(given) <= LONGEST_ID
        request_id = given if fine else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def add_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self.app(scope, receive, add_id)


def make_app(service: Service, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """Return the application.

    Args:
        service: answers the doors' requests.
        routers: health, metrics, the page: whatever is no dialect.
    """
    app = FastAPI(
        title="Embed Foundry",
        version=version("embed-foundry"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for make_router in ROUTERS:
        app.include_router(make_router(service))
    app.router.routes.append(probe.make_route())
    for router in routers:
        app.include_router(router)
    app.add_middleware(Admission, settings=service.settings)
    app.add_middleware(RequestIds)

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "another method")
            refusal = RefusalError(METHOD_NOT_ALLOWED, f"{request.method} is not answered here; expected {allowed}.")
        elif error.status_code == HTTPStatus.NOT_FOUND:
            refusal = RefusalError(NOT_FOUND, "no such path; /openapi.json lists those that are answered.")
        else:
            reason = Reason(HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"), error.status_code)
            refusal = RefusalError(reason, str(error.detail))
        return find_dialect(path).refuse(refusal, error.headers)

    @app.exception_handler(RefusalError)
    async def refuse(request: Request, refusal: RefusalError) -> Response:
        return find_dialect(request.url.path).refuse(refusal)

    @app.exception_handler(Exception)
    async def fail(request: Request, _error: Exception) -> Response:
        return find_dialect(request.url.path).refuse(internal_error())

    return app
