"""A door: the routes of one dialect on a service, documented in /openapi.json with every refusal they know."""

import logging
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from ..observer import Finished
from ..refusals import (
    BODY_TIMEOUT,
    CLIENT_GONE,
    DEADLINE,
    EMPTY_INPUT,
    INPUT_TOO_LONG,
    INTERNAL,
    INVALID_INPUT,
    MALFORMED,
    OTHER_SPACE,
    OVERLOADED,
    TOKEN_IDS,
    TOO_LARGE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNKNOWN_MODEL,
    UNSOUND_VECTOR,
    UNSUPPORTED_MEDIA_TYPE,
    Reason,
    RefusalError,
)
from ..service import Service
from .body import Body
from .dialect import Dialect
from .exchange import Exchange
from .fields import TEXT, TEXTS, JsonObject

log = logging.getLogger(__name__)

Handler = Callable[[Exchange], Awaitable[Response]]
ANY: Final = (UNAUTHORIZED, INTERNAL, UNAVAILABLE)
NAMING: Final = (*ANY, UNKNOWN_MODEL)
READING: Final = (*ANY, MALFORMED, INVALID_INPUT, TOO_LARGE, BODY_TIMEOUT, UNSUPPORTED_MEDIA_TYPE, UNKNOWN_MODEL)
READING_TEXTS: Final = (*READING, EMPTY_INPUT, TOKEN_IDS)
EMBEDDING: Final = (
    *READING_TEXTS,
    INPUT_TOO_LONG,
    OTHER_SPACE,
    OVERLOADED,
    TOO_MANY_REQUESTS,
    DEADLINE,
    UNSOUND_VECTOR,
)
ANSWER_HEADERS: Final = {
    "X-Space-Id": "The vector space. Vectors of other spaces cannot be compared with these.",
    "X-Variant": "The variant that computed the vectors.",
    "X-Release": "Digest of the release.",
    "Server-Timing": "Where the time went, in milliseconds.",
}
SOMETIMES: Final = {
    "X-Truncated": "Positions of the texts that were over the token limit and lost tokens, such as 0,3; at most 100.",
    "X-Unknown": "Positions of the texts of which a static variant knows no token: do not search by them.",
    "X-Cached": "How many of the texts were answered from the cache.",
    "X-Fallback": "Why a variant that comes first did not answer.",
}
EXPECTED_SPACE: Final = {
    "name": "X-Expect-Space-Id",
    "in": "header",
    "description": "The space of the client's index. Vectors of another one are refused with 409.",
    "schema": {"type": "string"},
}


class DoorRoute(APIRoute):
    """A route whose endpoint takes the request itself: FastAPI resolves no parameters, and only documents it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


class Door:
    """One dialect's routes.

    Args:
        dialect: how refusals are written.
        service: answers requests.
    """

    def __init__(self, dialect: Dialect, service: Service) -> None:
        self.dialect, self.service = dialect, service
        self.routes = APIRouter(tags=[dialect.title], route_class=DoorRoute)

    def add(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        summary: str,
        answer: type[BaseModel] | JsonObject | None,
        body: type[Body] | None = None,
        reasons: Sequence[Reason] = ANY,
        parameters: Sequence[JsonObject] = (),
        waits: bool = True,
    ) -> None:
        """Add one route.

        Args:
            method: GET or POST; GET answers HEAD, too.
            path: of the route.
            handler: reads an exchange and answers it.
            summary: one line for the documentation.
            answer: the record of its answer or the JSON schema of it; None for an empty one.
            body: the record of its body.
            reasons: why it may refuse.
            parameters: of its path, as OpenAPI describes them.
            waits: whether it waits while the first release opens.
        """
        embeds = OVERLOADED in reasons

        async def endpoint(request: Request) -> Response:
            return await self._answer(Exchange(request, self.service), handler, embeds, waits)

        extra: JsonObject = {"parameters": [*parameters, *([EXPECTED_SPACE] if embeds else [])]}
        if body is not None:
            schema = self._limit(body.model_json_schema())
            extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        self.routes.add_api_route(
            path,
            endpoint,
            methods=[method],
            summary=summary,
            operation_id=f"{self.dialect.name}:{method.lower()}:{path}",
            response_model=None,
            response_class=Response if answer is None else JSONResponse,
            responses={200: self._describe_answer(answer, embeds), **self._describe_refusals(reasons)},
            openapi_extra={name: value for name, value in extra.items() if value},
        )
        if method == "GET":
            self.routes.add_api_route(path, endpoint, methods=["HEAD"], response_model=None, include_in_schema=False)

    async def _answer(self, exchange: Exchange, handler: Handler, embeds: bool, waits: bool) -> Response:
        reason = ""
        try:
            if waits:
                await self.service.wait_for_release(self.service.settings.deadline_s)
            response = await handler(exchange)
        except RefusalError as refusal:
            reason, response = refusal.reason.code, self.dialect.refuse(refusal)
        except ClientDisconnect:
            gone = RefusalError(CLIENT_GONE, "the client left before its answer.")
            reason, response = CLIENT_GONE.code, self.dialect.refuse(gone)
        except Exception as error:
            # Its message may quote a client's text, which belongs into no log.
            log.error("%s at\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            reason, response = INTERNAL.code, self.dialect.refuse(internal_error())
        if embeds:
            answer = exchange.answer
            self.service.observer.on_finished(
                Finished(
                    self.dialect.name,
                    response.status_code,
                    reason,
                    exchange.seconds,
                    len(answer.tokens) if answer else 0,
                    sum(answer.tokens) if answer else 0,
                    answer.cached if answer else 0,
                    answer.variant if answer else "",
                    answer.timings.queue_s if answer else 0.0,
                    answer.timings.compute_s if answer else 0.0,
                )
            )
        return response

    def _limit(self, schema: JsonObject) -> JsonObject:
        """Put the service's limits on fields of texts."""
        settings = self.service.settings

        def limit(part: Any) -> None:  # noqa: ANN401
            if isinstance(part, list):
                for each in part:
                    limit(each)
            elif isinstance(part, dict):
                if part.get("title") == TEXTS:
                    part["maxItems"] = settings.max_texts
                if part.get("title") == TEXT:
                    part["maxLength"] = settings.max_characters
                for each in part.values():
                    limit(each)

        limit(schema)
        return schema

    def _describe_answer(self, answer: type[BaseModel] | JsonObject | None, embeds: bool) -> JsonObject:
        described: JsonObject = {"description": "The answer."}
        if isinstance(answer, dict):
            described["content"] = {"application/json": {"schema": answer}}
        elif answer is not None:
            described["model"] = answer
        if embeds:
            described["headers"] = {
                name: {"description": text, "required": required, "schema": {"type": "string"}}
                for headers, required in ((ANSWER_HEADERS, True), (SOMETIMES, False))
                for name, text in headers.items()
            }
        return described

    def _describe_refusals(self, reasons: Sequence[Reason]) -> dict[int | str, JsonObject]:
        codes: dict[int, list[str]] = {}
        for reason in reasons:
            codes.setdefault(self.dialect.status(reason), []).append(reason.code)
        reason_header = {"description": "The reason.", "required": True, "schema": {"type": "string"}}
        return {
            status: {
                "model": self.dialect.error,
                "description": f"Refused: {', '.join(sorted(names))}.",
                "headers": {
                    "X-Reason": {**reason_header, "schema": {"type": "string", "enum": sorted(names)}},
                    **({"Retry-After": RETRY_AFTER} if status in (429, 503) else {}),
                },
            }
            for status, names in sorted(codes.items())
        }


RETRY_AFTER: Final = {"description": "When to come again, in seconds.", "schema": {"type": "integer"}}


def internal_error() -> RefusalError:
    """Return the refusal for a fault of ours."""
    return RefusalError(INTERNAL, "the service failed on this request; its log has the place. Please report it.")
