"""Traces by OpenTelemetry, where they are asked for: a span for each request, in the client's trace if it sent one.

Where spans go is set by OpenTelemetry's own variables: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER, …. No span holds a text, a key or a vector.
"""

import os
import threading
from dataclasses import asdict

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from .observer import Finished, Observer

# Asked every few seconds by whoever operates the service.
LEFT_OUT = "livez,readyz,health,metrics"
FLUSH_S = 3.0


class Tracing(Observer):
    """Says in a request's span who answered it, and what took how long."""

    def __init__(self) -> None:
        os.environ.setdefault("OTEL_SERVICE_NAME", "embed-foundry")
        self._provider = TracerProvider(resource=Resource.create())
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def add_to(self, app: FastAPI) -> None:
        """Begin a span with every request of an application."""
        app.add_middleware(
            OpenTelemetryMiddleware,
            excluded_urls=LEFT_OUT,
            exclude_spans=["receive", "send"],
            tracer_provider=self._provider,
        )

    def on_finished(self, finished: Finished) -> None:
        """Describe the request whose span is the current one."""
        span = trace.get_current_span()
        for name, value in asdict(finished).items():
            span.set_attribute(f"embed_foundry.{name}", value)

    def close(self) -> None:
        """Send what was not sent yet; a collector that is gone holds the end of the process for `FLUSH_S` at most."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)
