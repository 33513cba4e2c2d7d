"""The service: the release that answers now, and what doors ask of it."""

from .engine import Engine
from .observer import Observer
from .requests import EmbedAnswer, EmbedRequest
from .settings import Settings


class Service:
    """Answers requests from the current release.

    Args:
        engine: the release that answers first.
        settings: see `Settings`.
        observer: is told of every request and event.
    """

    def __init__(self, engine: Engine, settings: Settings, observer: Observer | None = None) -> None:
        self.engine, self.settings, self.observer = engine, settings, observer or Observer()

    async def embed(self, request: EmbedRequest) -> EmbedAnswer:
        """Return the vectors of a request.

        Raises:
            RefusalError: with its reason.
        """
        return await self.engine.embed(request)

    async def close(self) -> None:
        """Let go of the release."""
        await self.engine.close()
