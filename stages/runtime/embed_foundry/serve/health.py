"""Health: /livez says whether the process works at all, /readyz whether it answers now and why not."""

from dataclasses import asdict, dataclass

from fastapi import APIRouter, Response

from .answers import json_response
from .readiness import Readiness
from .service import Service


@dataclass(frozen=True)
class Liveness:
    """What /livez says.

    Attributes:
        alive: whether the loop and the lanes move; a supervisor restarts the process if not.
        reason: why not; "" if it is.
    """

    alive: bool
    reason: str


def router(service: Service) -> APIRouter:
    """Return the routes; they need no key, and name no text."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", responses={200: {"model": Liveness}, 503: {"model": Liveness}})
    async def livez() -> Response:
        """Answer 200 while the process works, whether or not it has a release."""
        reason = service.find_standstill()
        return json_response(asdict(Liveness(not reason, reason)), 503 if reason else 200)

    @routes.get("/readyz", responses={200: {"model": Readiness}, 503: {"model": Readiness}})
    async def readyz() -> Response:
        """Answer 200 while requests are answered, as traffic or a golden probe proved within seconds."""
        readiness = service.read_readiness()
        return json_response(asdict(readiness), 200 if readiness.ready else 503)

    return routes
