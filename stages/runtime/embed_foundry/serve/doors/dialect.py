"""How a dialect refuses: its error object, its statuses, and the headers that all share."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import Response
from pydantic import BaseModel

from ..answers import json_response
from ..refusals import Reason, RefusalError


@dataclass(frozen=True)
class Dialect:
    """One API that clients speak.

    Attributes:
        name: as metrics call it.
        title: as documentation calls it.
        error: the record of a refusal's body.
        write: the body of a refusal with some status.
        statuses: of reasons that have another status here than the table of refusals says.
    """

    name: str
    title: str
    error: type[BaseModel]
    write: Callable[[RefusalError, int], BaseModel]
    statuses: Mapping[Reason, int] = field(default_factory=dict)

    def status(self, reason: Reason) -> int:
        """Return the HTTP status of a reason."""
        return self.statuses.get(reason, reason.status)

    def refuse(self, refusal: RefusalError, headers: Mapping[str, str] | None = None) -> Response:
        """Return a refusal as this dialect writes it."""
        status = self.status(refusal.reason)
        body = self.write(refusal, status).model_dump(mode="json")
        return json_response(body, status, {**(headers or {}), **refusal_headers(refusal, status)})


def refusal_headers(refusal: RefusalError, status: int) -> dict[str, str]:
    """Return what every refusal says beside its dialect.

    X-Reason is the reason's code. X-Should-Retry is what OpenAI's clients heed: they would send a request of another
    space (409) again. Retry-After is in whole seconds (RFC 9110, 10.2.3).
    """
    headers = {"X-Reason": refusal.reason.code, "X-Should-Retry": "true" if refusal.reason.retry else "false"}
    if refusal.reason.retry and status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s or 0)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers
