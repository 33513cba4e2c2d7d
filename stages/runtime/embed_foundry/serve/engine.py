"""One release in memory: from an `EmbedRequest` to an `EmbedAnswer`, by the variants it has open."""

import asyncio
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

from ..bundle import Bundle
from ..encoder import Encoder
from ..environment import Environment
from ..errors import FoundryError, InputError, IntegrityError
from . import names
from .cache import VectorCache
from .observer import Observer
from .refusals import EMPTY_INPUT, INVALID_INPUT, OTHER_SPACE, UNAVAILABLE, UNSOUND_VECTOR, RefusalError
from .requests import EmbedAnswer, EmbedRequest, Timings
from .settings import Settings


class Engine:
    """Answers requests from one release.

    Args:
        bundle: the verified release.
        settings: see `Settings`.
        cache: vectors by content; None keeps none.
        observer: is told of every call and event.
    """

    def __init__(
        self, bundle: Bundle, settings: Settings, cache: VectorCache | None = None, observer: Observer | None = None
    ) -> None:
        self.bundle, self.settings = bundle, settings
        self.cache, self.observer = cache, observer or Observer()
        self.environment = Environment.detect()
        self._encoders: dict[str, Encoder] = {}
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="compute")

    async def embed(self, request: EmbedRequest) -> EmbedAnswer:
        """Return the vectors of a request.

        Raises:
            RefusalError: with its reason.
        """
        if not request.texts:
            raise RefusalError(EMPTY_INPUT, "no text to embed; expected at least one.", "input")
        return await asyncio.get_running_loop().run_in_executor(self._compute, self._embed, request)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the variants in memory."""
        return tuple(self._encoders)

    def close(self) -> None:
        """Wait for the running calls, then let go of every variant."""
        self._compute.shutdown()

    def _embed(self, request: EmbedRequest) -> EmbedAnswer:
        started = time.perf_counter()
        contract = self.bundle.contract
        named = names.resolve(request.model, contract, self.environment, self.settings.aliases, self._prompts())
        encoder = self._open(named.order)
        space = contract.variants[encoder.variant.name].space_id
        if request.expected_space and request.expected_space != space:
            raise RefusalError(
                OTHER_SPACE,
                f"this service's vectors are of space {space}, the index expects {request.expected_space}: they cannot "
                "be compared. Embed the index again, or ask a service of that space.",
            )
        prompt = request.prompt or named.prompt
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                vectors = encoder.encode(request.texts, prompt=prompt, dimensions=request.dimensions)
        except InputError as error:
            raise RefusalError(INVALID_INPUT, str(error)) from None
        except IntegrityError as error:
            raise RefusalError(UNSOUND_VECTOR, str(error)) from None
        counts = encoder.count_tokens(request.texts, prompt=prompt)
        limit = encoder.variant.max_tokens
        return EmbedAnswer(
            vectors=vectors,
            variant=encoder.variant.name,
            model=encoder.variant.model,
            space_id=space,
            release=self.bundle.digest,
            tokens=tuple(min(count, limit) for count in counts),
            truncated=tuple(position for position, count in enumerate(counts) if count > limit),
            timings=Timings(total_s=time.perf_counter() - started),
        )

    def _prompts(self) -> frozenset[str]:
        return frozenset(self.bundle.raw["model"].get("prompts", ()))

    def _open(self, order: tuple[str, ...]) -> Encoder:
        failures = []
        for name in order:
            if name in self._encoders:
                return self._encoders[name]
            try:
                self._encoders[name] = self.bundle.open(name, self.settings.threads)
            except FoundryError as error:
                failures.append(f"{name}: {error}")
            else:
                return self._encoders[name]
        raise RefusalError(UNAVAILABLE, f"no variant of this space can be opened. {'; '.join(failures)}")
