"""Prometheus metrics under the names that text-embeddings-inference has, so that its dashboards and autoscalers work.

Several processes on one port write theirs to $PROMETHEUS_MULTIPROC_DIR, and each answers with the sum.
"""

import os

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess
from prometheus_client.exposition import choose_encoder

from .observer import Call, Event, Finished, Observer

# Seconds; a static table answers in a third of a millisecond, a long text on a throttled CPU in half a minute.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TOKENS = tuple(2**power for power in range(3, 15))
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Metrics(Observer):
    """Counts what the service reports. No label holds what a client sent: variants, doors and reasons are ours.

    Args:
        registry: where the metrics are registered; tests have one of their own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        door, variant = ("door",), ("variant",)
        self._requests = Counter("te_request_count", "Requests.", door, registry=registry)
        self._successes = Counter("te_request_success", "Requests that were answered.", door, registry=registry)
        self._failures = Counter("te_request_failure", "Requests that were refused.", (*door, "err"), registry=registry)
        self._duration = Histogram(
            "te_request_duration", "Seconds of an answered request.", door, buckets=SECONDS, registry=registry
        )
        self._queue = Histogram(
            "te_embed_queue_duration", "Seconds that a text waited.", variant, buckets=SECONDS, registry=registry
        )
        self._inference = Histogram(
            "te_embed_inference_duration", "Seconds of a call of a model.", variant, buckets=SECONDS, registry=registry
        )
        self._batch_texts = Histogram(
            "te_batch_next_size", "Texts of a call.", variant, buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self._batch_tokens = Histogram(
            "te_batch_next_tokens",
            "Tokens of a call.",
            variant,
            buckets=[2**n for n in range(3, 15)],
            registry=registry,
        )
        self._waiting = Gauge(
            "te_queue_size", "Texts that wait for a lane.", registry=registry, multiprocess_mode="livesum"
        )
        self._waiting_tokens = Gauge(
            "te_queue_tokens", "Tokens that wait for a lane.", registry=registry, multiprocess_mode="livesum"
        )
        self._texts = Counter("te_embed_count", "Texts that were answered.", door, registry=registry)
        self._tokens = Counter("te_embed_tokens", "Tokens of the texts that were answered.", door, registry=registry)
        self._cached = Counter("te_embed_cached", "Texts that were answered from the cache.", door, registry=registry)
        self._events = Counter("te_events", "What happened to variants and releases.", ("event",), registry=registry)
        self._loaded = Gauge(
            "te_variants_loaded", "Variants in memory.", variant, registry=registry, multiprocess_mode="livesum"
        )

    def on_call(self, call: Call) -> None:
        """Count a call of a model."""
        self._queue.labels(call.variant).observe(call.queue_s)
        self._inference.labels(call.variant).observe(call.compute_s)
        self._batch_texts.labels(call.variant).observe(call.texts)
        self._batch_tokens.labels(call.variant).observe(call.tokens)

    def on_event(self, event: Event) -> None:
        """Count an event."""
        self._events.labels(event.name).inc()
        if event.variant and event.name in ("loaded", "unloaded"):
            self._loaded.labels(event.variant).set(event.name == "loaded")

    def on_finished(self, finished: Finished) -> None:
        """Count a request."""
        self._requests.labels(finished.door).inc()
        if finished.reason:
            self._failures.labels(finished.door, finished.reason).inc()
            return
        self._successes.labels(finished.door).inc()
        self._duration.labels(finished.door).observe(finished.seconds)
        self._texts.labels(finished.door).inc(finished.texts)
        self._tokens.labels(finished.door).inc(finished.tokens)
        self._cached.labels(finished.door).inc(finished.cached)

    def on_queue(self, texts: int, tokens: int) -> None:
        """Take note of how much waits."""
        self._waiting.set(texts)
        self._waiting_tokens.set(tokens)

    def router(self) -> APIRouter:
        """Return the route /metrics: Prometheus' text format, or OpenMetrics where the client accepts it."""
        routes = APIRouter()

        @routes.get("/metrics", summary="Prometheus metrics", tags=["operations"], response_class=Response)
        async def read_metrics(request: Request) -> Response:
            encode, media_type = choose_encoder(request.headers.get("Accept", ""))
            return Response(encode(_all_processes(self.registry)), media_type=media_type)

        return routes


def _all_processes(own: CollectorRegistry) -> CollectorRegistry:
    """Return the metrics of all processes on this port, or this one's where it is alone."""
    if not os.environ.get(MULTIPROCESS):
        return own
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
