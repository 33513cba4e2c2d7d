"""OpenTelemetry: a span for each request, in the client's trace, without a text."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.served import serve
from support.served_releases import wait_for

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    """Return a collector's address, and the bodies of the requests that it gets."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()


def read_spans(bodies):
    requests = map(ExportTraceServiceRequest.FromString, bodies)
    return [
        span for request in requests for part in request.resource_spans for scope in part.scope_spans
        for span in scope.spans
    ]  # fmt: skip


def test_a_request_is_a_span_in_the_clients_trace(first_release, collector, monkeypatch, tmp_path):
    url, bodies = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with serve(first_release, tmp_path, "--tracing", "true") as service:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        body = {"model": "auto", "input": ["a secret text", "another"]}
        assert service.client.post("/v1/embeddings", json=body, headers=headers).status_code == 200
        service.client.get("/readyz")
        refused = service.client.post("/embed", json={"inputs": "a", "model": "none"})
        wait_for(lambda: len(read_spans(bodies)) == 2)
    answered, other = read_spans(bodies)
    values = {attribute.key: attribute.value for attribute in answered.attributes}
    assert (answered.trace_id.hex(), answered.parent_span_id.hex()) == (TRACE, PARENT)
    assert answered.name == "POST /v1/embeddings"
    assert values["embed_foundry.variant"].string_value == "static"
    assert values["embed_foundry.texts"].int_value == 2
    assert values["embed_foundry.compute_s"].double_value > 0
    assert b"secret" not in b"".join(bodies)
    reasons = {attribute.key: attribute.value.string_value for attribute in other.attributes}
    assert reasons["embed_foundry.reason"] == refused.headers["X-Reason"]


def test_a_collector_that_is_gone_costs_no_answer(first_release, monkeypatch, tmp_path):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with serve(first_release, tmp_path, "--tracing", "true") as service:
        for _ in range(20):
            answer = httpx2.post(f"{service.url}/api/embed", json={"model": "auto", "input": "a"}, timeout=30)
            assert answer.status_code == 200
