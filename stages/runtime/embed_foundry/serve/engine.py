"""One release in memory: from an `EmbedRequest` to an `EmbedAnswer`, by the variants it has open."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from .. import cpus
from ..bundle import Bundle
from ..encoders.encoder import Encoder
from ..encoders.rows import Tokens
from ..encoders.vectors import Vectors, truncate
from ..environment import Environment
from ..errors import IntegrityError
from . import names
from .cache import VectorCache, VectorKey
from .compute import Lanes
from .jobs import Batch
from .observer import Event, Observer
from .pool import Lease, VariantPool
from .prepared import Prepared, prepare
from .refusals import (
    DEADLINE,
    EMPTY_INPUT,
    INPUT_TOO_LONG,
    INVALID_INPUT,
    OTHER_SPACE,
    UNAVAILABLE,
    UNSOUND_VECTOR,
    RefusalError,
)
from .requests import EmbedAnswer, EmbedRequest, Timings
from .settings import Settings

P = ParamSpec("P")
Result = TypeVar("Result")


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
        shipped = bundle.raw["variants"]
        self.prompts = frozenset(map(str, shipped[bundle.order[0]]["prompts"]))
        self._dimensions = {name: int(shipped[name]["dimensions"]) for name in bundle.order}
        threads = settings.threads or cpus.available_cpus()
        lanes = min(settings.lanes or threads, threads)
        self.lanes = Lanes(lanes, settings.batch_tokens, settings.max_queued_tokens, self.observer)
        self.pool = VariantPool(bundle, self.environment, settings, max(1, threads // lanes), lanes, self.observer)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the variants in memory."""
        return self.pool.loaded

    @property
    def failed(self) -> dict[str, str]:
        """Return the variants that cannot answer, and why."""
        return self.pool.failed

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
        order = named.order or (self.bundle.order[0],)
        # Before anything is loaded, for that may take another variant's place.
        self._require_space(request, order[0])
        _require_dimensions(request.dimensions, self._dimensions[order[0]])
        self.pool.look()
        async with self.pool.lease(order, deadline, counts=not request.probe) as lease:
            loaded_s = time.monotonic() - started
            encoder = lease.loaded.encoder
            prepared = await prepare(encoder, request.texts, prompt)
            if not request.truncate:
                _require_short(prepared.rows, encoder.variant.max_tokens)
            tokenized_s = time.monotonic() - started - loaded_s
            computed = await self._compute(lease, prepared, request, prompt, deadline)
        vectors = _truncate(computed.vectors, request, encoder)
        if skipped := (*named.skipped, *lease.skipped):
            self.observer.on_event(Event("fallback", f"{encoder.variant.name} answered; {'; '.join(skipped)}"))
        return EmbedAnswer(
            vectors=vectors,
            variant=encoder.variant.name,
            model=encoder.variant.model,
            space_id=self.bundle.contract.variants[encoder.variant.name].space_id,
            release=self.bundle.digest,
            tokens=tuple(len(row.ids) for row in prepared.rows),
            truncated=tuple(position for position, row in enumerate(prepared.rows) if row.truncated),
            unknown=prepared.unknown,
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

    def _require_space(self, request: EmbedRequest, variant: str) -> None:
        space = self.bundle.contract.variants[variant].space_id
        if request.expected_space and request.expected_space != space:
            raise RefusalError(
                OTHER_SPACE,
                f"this service's vectors are of space {space}, the index expects {request.expected_space}: "
                "they cannot be compared. Embed the index again, or ask a service of that space.",
            )

    async def _compute(
        self, lease: Lease, prepared: Prepared, request: EmbedRequest, prompt: str | None, deadline: float
    ) -> Computed:
        """Return the model's vectors, from the cache or computed."""
        loaded, rows = lease.loaded, prepared.rows
        keys = [VectorKey(loaded.numerics, prompt or "", digest) for digest in prepared.digests]
        cache = None if request.probe else self.cache
        kept = await _call(cache, cache.get, keys) if cache else [None] * len(keys)
        vectors = np.empty((len(rows), loaded.encoder.variant.dimensions), dtype=np.float32)
        for position, vector in enumerate(kept):
            if vector is not None:
                vectors[position] = vector
        missing = [position for position, vector in enumerate(kept) if vector is None]
        cached = len(keys) - len(missing)
        if not missing:
            return Computed(vectors, cached)
        missing_keys = [keys[position] for position in missing]
        # A probe shares its vector with no other request: it must be computed.
        shared: Sequence[VectorKey | None] = [None] * len(missing) if request.probe else missing_keys
        batch = await self._run(lease, [rows[position] for position in missing], shared, deadline)
        vectors[missing] = batch.vectors
        if cache:
            await _call(cache, cache.put, missing_keys, batch.vectors)
        return Computed(vectors, cached, batch.queue_s, batch.compute_s)

    async def _run(
        self, lease: Lease, rows: Sequence[Tokens], keys: Sequence[VectorKey | None], deadline: float
    ) -> Batch:
        """Compute rows in the lanes."""
        loop, encoder = asyncio.get_running_loop(), lease.loaded.encoder
        vectors = np.empty((len(rows), encoder.variant.dimensions), dtype=np.float32)
        batch = Batch(encoder, rows, keys, deadline, vectors, loop.create_future(), loop)
        self.lanes.submit(batch)
        try:
            await asyncio.wait_for(batch.future, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise RefusalError(
                DEADLINE, "the deadline passed before all texts were computed. Ask again later.", retry_after_s=1.0
            ) from None
        except RefusalError as refusal:
            if batch.failed_row is not None and refusal.reason in (UNSOUND_VECTOR, UNAVAILABLE):
                self.pool.note_failure(lease.loaded, rows[batch.failed_row].text, refusal.message)
            raise
        lease.loaded.failures.clear()
        return batch


async def _call(cache: VectorCache, method: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Call a method of a cache, in a thread if it may wait."""
    return await asyncio.to_thread(method, *args, **kwargs) if cache.blocks else method(*args, **kwargs)


def _require_dimensions(dimensions: int | None, full: int) -> None:
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
