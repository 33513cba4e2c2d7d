"""One release in memory: from an `EmbedRequest` to an `EmbedAnswer`, by the variants it has open."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from .. import cpus
from ..bundle import Bundle
from ..contract import ShippedVariant
from ..encoders.encoder import Encoder
from ..encoders.rows import Tokens
from ..encoders.vectors import Vectors, truncate
from ..environment import Environment
from ..errors import InputError, IntegrityError
from . import names
from .cache import VectorCache, VectorKey
from .compute import Batch, Lanes
from .observer import Event, Observer
from .pool import Lease, VariantPool
from .refusals import (
    EMPTY_INPUT,
    INPUT_TOO_LONG,
    INVALID_INPUT,
    OTHER_SPACE,
    UNSOUND_VECTOR,
    RefusalError,
)
from .requests import EmbedAnswer, EmbedRequest, Timings
from .settings import Settings

P = ParamSpec("P")
Result = TypeVar("Result")
# Texts of so many characters together are tokenized on the event loop: a thread would take longer to start on them.
INLINE_CHARACTERS = 2000


@dataclass(frozen=True)
class Computed:
    """Vectors of a request as the model gave them, and where they came from.

    Attributes:
        vectors: float32 [n, full dimensions].
        cached: how many are from the cache.
        queue_s: longest wait of one of its texts, in seconds.
        compute_s: time of the calls that its texts had a part in, in seconds.
    """

    vectors: Vectors
    cached: int
    queue_s: float = 0.0
    compute_s: float = 0.0


class Engine:
    """Answers requests from one release. It belongs to one event loop.

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
        self.prompts = frozenset(map(str, bundle.raw["variants"][bundle.order[0]]["prompts"]))
        threads = settings.threads or cpus.available_cpus()
        lanes = min(settings.lanes or threads, threads)
        self.lanes = Lanes(lanes, settings.batch_tokens, settings.max_queued_tokens, self.observer)
        self.pool = VariantPool(bundle, self.environment, settings, max(1, threads // lanes), self.observer)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the variants in memory."""
        return tuple(self.pool.loaded)

    @property
    def failed(self) -> dict[str, str]:
        """Return the variants that cannot answer, and why."""
        return {name: failed.reason for name, failed in self.pool.failed.items()}

    def unload_idle(self) -> None:
        """Unload what was not used for too long, and what a shortage of memory asks for."""
        self.pool.look()

    async def embed(self, request: EmbedRequest) -> EmbedAnswer:
        """Return the vectors of a request.

        Raises:
            RefusalError: with its reason.
        """
        started = time.monotonic()
        deadline = started + (self.settings.deadline_s if request.deadline_s is None else request.deadline_s)
        if not request.texts:
            raise RefusalError(EMPTY_INPUT, "no text to embed; expected at least one.", "input")
        named = names.resolve(
            request.model, self.bundle.contract, self.environment, self.settings.aliases, self.prompts
        )
        prompt = self._choose_prompt(request, named)
        shipped = self._require_space(request, named)
        self.pool.look()
        async with self.pool.lease(named.order or (shipped,), deadline, counts=not request.probe) as lease:
            loaded_s = time.monotonic() - started
            encoder = lease.loaded.encoder
            _require_dimensions(request.dimensions, encoder)
            rows = await _tokenize(encoder, request.texts, prompt)
            if not request.truncate:
                _require_short(rows, encoder.variant.max_tokens)
            tokenized_s = time.monotonic() - started - loaded_s
            computed = await self._compute(lease, rows, request, prompt, deadline)
        vectors = _truncate(computed.vectors, request, encoder)
        if skipped := (*named.skipped, *lease.skipped):
            self.observer.on_event(Event("fallback", f"{encoder.variant.name} answered; {'; '.join(skipped)}"))
        return EmbedAnswer(
            vectors=vectors,
            variant=encoder.variant.name,
            model=encoder.variant.model,
            space_id=self.bundle.contract.variants[encoder.variant.name].space_id,
            release=self.bundle.digest,
            tokens=tuple(len(row.ids) for row in rows),
            truncated=tuple(position for position, row in enumerate(rows) if row.truncated),
            unknown=tuple(position for position, row in enumerate(rows) if encoder.is_unknown(row)),
            cached=computed.cached,
            skipped=skipped,
            timings=Timings(tokenized_s, computed.queue_s, loaded_s, computed.compute_s, time.monotonic() - started),
        )

    async def close(self) -> None:
        """Wait for the running calls, then let go of every variant."""
        await asyncio.to_thread(self.lanes.close)
        await self.pool.close()

    def _choose_prompt(self, request: EmbedRequest, named: names.Named) -> str | None:
        """Return the prompt's name, from its own field or the model's."""
        if request.prompt and named.prompt and request.prompt != named.prompt:
            raise RefusalError(
                INVALID_INPUT,
                f"the model {request.model!r} names the prompt {named.prompt!r}, and the request {request.prompt!r}. "
                "Give one of them.",
                "model",
            )
        prompt = request.prompt or named.prompt
        if prompt is not None and prompt not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "no prompts"
            raise RefusalError(INVALID_INPUT, f"prompt {prompt!r} is unknown; this model has {known}.", "prompt")
        return prompt

    def _require_space(self, request: EmbedRequest, named: names.Named) -> str:
        """Check the space before anything is loaded; return the first variant that the request stands for."""
        first = named.order[0] if named.order else self.bundle.order[0]
        shipped: ShippedVariant = self.bundle.contract.variants[first]
        if request.expected_space and request.expected_space != shipped.space_id:
            raise RefusalError(
                OTHER_SPACE,
                f"this service's vectors are of space {shipped.space_id}, the index expects {request.expected_space}: "
                "they cannot be compared. Embed the index again, or ask a service of that space.",
            )
        return first

    async def _compute(
        self, lease: Lease, rows: Sequence[Tokens], request: EmbedRequest, prompt: str | None, deadline: float
    ) -> Computed:
        """Return the model's vectors: from the cache, or computed, each different text once."""
        encoder, numerics = lease.loaded.encoder, lease.loaded.numerics
        keys = [VectorKey(numerics, prompt or "", hashlib.sha256(text.encode()).digest()) for text in request.texts]
        cache = None if request.probe else self.cache
        kept = await _call(cache, cache.get, keys) if cache else [None] * len(keys)
        first = {key: position for position, key in reversed(list(enumerate(keys)))}
        missing = [position for position, key in enumerate(keys) if kept[position] is None and first[key] == position]
        vectors = np.empty((len(rows), encoder.variant.dimensions), dtype=np.float32)
        for position, vector in enumerate(kept):
            if vector is not None:
                vectors[position] = vector
        batch = await self._run(lease, [rows[position] for position in missing], deadline) if missing else None
        if batch:
            vectors[missing] = batch.vectors
            for position, key in enumerate(keys):
                vectors[position] = vectors[first[key]] if kept[position] is None else vectors[position]
            if cache:
                await _call(cache, cache.put, [keys[position] for position in missing], batch.vectors)
        cached = sum(vector is not None for vector in kept)
        return Computed(vectors, cached, batch.queue_s, batch.compute_s) if batch else Computed(vectors, cached)

    async def _run(self, lease: Lease, rows: Sequence[Tokens], deadline: float) -> Batch:
        """Compute rows in the lanes."""
        loop = asyncio.get_running_loop()
        encoder = lease.loaded.encoder
        vectors = np.empty((len(rows), encoder.variant.dimensions), dtype=np.float32)
        batch = Batch(encoder, rows, deadline, vectors, loop.create_future(), loop)
        self.lanes.submit(batch)
        try:
            await batch.future
        except RefusalError as refusal:
            if refusal.reason is UNSOUND_VECTOR:
                self.pool.fail(encoder.variant.name, refusal.message)
            raise
        return batch


async def _call(cache: VectorCache, method: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Call a method of a cache, in a thread if it may wait."""
    return await asyncio.to_thread(method, *args, **kwargs) if cache.blocks else method(*args, **kwargs)


async def _tokenize(encoder: Encoder, texts: Sequence[str], prompt: str | None) -> list[Tokens]:
    try:
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return encoder.tokenize(texts, prompt=prompt)
        return await asyncio.to_thread(encoder.tokenize, texts, prompt=prompt)
    except InputError as error:
        raise RefusalError(INVALID_INPUT, str(error), "input") from None


def _require_dimensions(dimensions: int | None, encoder: Encoder) -> None:
    full = encoder.variant.dimensions
    if dimensions is not None and not 1 <= dimensions <= full:
        raise RefusalError(
            INVALID_INPUT, f"dimensions {dimensions} is out of range; this model has 1 to {full}.", "dimensions"
        )


def _require_short(rows: Sequence[Tokens], limit: int) -> None:
    for position, row in enumerate(rows):
        if row.truncated:
            raise RefusalError(
                INPUT_TOO_LONG,
                f"text {position} has {row.count} tokens, this model takes {limit}. Split it, or allow truncation.",
                "input",
            )


def _truncate(vectors: Vectors, request: EmbedRequest, encoder: Encoder) -> Vectors:
    try:
        # Texts are for a message that no client sees: an answer never repeats what was sent.
        return truncate(vectors, request.dimensions or encoder.variant.dimensions, [""] * len(vectors))
    except IntegrityError:
        raise RefusalError(
            UNSOUND_VECTOR, f"{encoder.variant.name} gave a vector without length at these dimensions. It was not sent."
        ) from None
