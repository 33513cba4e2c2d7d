"""The HTTP application: every door, health and metrics on one service."""

from fastapi import FastAPI, Request, Response

from . import health
from .answers import json_response
from .doors import openai
from .refusals import RefusalError
from .service import Service


def make_app(service: Service) -> FastAPI:
    """Return the application."""
    app = FastAPI(title="Embed Foundry")
    app.include_router(health.router(service))
    app.include_router(openai.router(service))

    @app.exception_handler(RefusalError)
    async def write_refusal(_request: Request, refusal: RefusalError) -> Response:
        error = {"message": refusal.message, "type": refusal.reason.code, "param": refusal.param, "code": None}
        return json_response({"error": error}, refusal.reason.status)

    return app
