"""One request and its answer: what every door does between HTTP and the service."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from ..answers import answer_headers, json_response
from ..refusals import INVALID_INPUT, RefusalError
from ..requests import EmbedAnswer, EmbedRequest
from ..service import Service
from . import body
from .catalog import Catalog
from .fields import Limits


class Exchange:
    """One request on its way through a door.

    Args:
        request: as it came.
        service: answers it.
    """

    def __init__(self, request: Request, service: Service) -> None:
        self.request, self.service = request, service
        self.started = time.perf_counter()
        self.answer: EmbedAnswer | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self.started

    @property
    def catalog(self) -> Catalog:
        """What the release that answers now has."""
        return Catalog.of(self.service)

    async def read(self, record: type[body.BodyT], *, any_type: bool = False) -> body.BodyT:
        """Return the body as a record.

        Args:
            record: of the door.
            any_type: read the body as JSON whatever type it says it has.

        Raises:
            RefusalError: see `body`.
        """
        settings = self.service.settings
        limits = Limits(settings.max_body_bytes, settings.max_texts, settings.max_characters, settings.deadline_s)
        if not any_type:
            body.require_json(self.request.scope)
        content = await body.read_bytes(self.request.scope, self.request.receive, limits)
        return await body.parse(content, record, limits)

    async def embed(
        self,
        texts: tuple[str, ...],
        model: str,
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: bool = True,
    ) -> EmbedAnswer:
        """Return the texts' vectors; a client that leaves meanwhile cancels the work.

        Raises:
            RefusalError: with its reason.
            ClientDisconnect: the client left.
        """
        asked = EmbedRequest(
            texts,
            model,
            prompt,
            dimensions,
            truncate,
            expected_space=self.request.headers.get("X-Expect-Space-Id", ""),
            client=self.request.client.host if self.request.client else "",
        )
        async with cancel_when_gone(self.request.receive):
            self.answer = await self.service.embed(asked)
        return self.answer

    def reply(self, content: object, headers: Mapping[str, str] | None = None) -> Response:
        """Return an answer in JSON with the headers that all doors share."""
        shared = answer_headers(self.answer) if self.answer else {}
        return json_response(content, headers={**shared, **(headers or {})})


@asynccontextmanager
async def cancel_when_gone(receive: Receive) -> AsyncIterator[None]:
    """Cancel what runs in the block when the client disconnects; the body must have been read whole.

    As `asyncio.timeout`, this leaves a cancellation by others alone.

    Raises:
        ClientDisconnect: the client left.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("no task runs that could be cancelled")
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()


def require_unit_length(normalize: bool) -> None:
    """Refuse `normalize: false`.

    Raises:
        RefusalError: invalid_input.
    """
    if not normalize:
        raise RefusalError(
            INVALID_INPUT,
            "normalize is false, but released graphs give unit vectors only: their lengths are part of no measurement. "
            "Leave it out.",
            "normalize",
        )


def require_truncation_side(exchange: Exchange, model: str, side: str, param: str) -> None:
    """Refuse to truncate at an end at which a model does not.

    Args:
        exchange: of the request.
        model: as the client named it.
        side: "left" or "right".
        param: the field that asks for it.

    Raises:
        RefusalError: invalid_input, unknown_model.
    """
    variant = exchange.catalog.find(model).variant
    if side != variant.truncation_side:
        raise RefusalError(
            INVALID_INPUT,
            f"{param} asks to truncate texts at the {side}, but {variant.name} is released, and measured, with "
            f"truncation at the {variant.truncation_side}. Leave it out, or cut the texts yourself.",
            param,
        )
