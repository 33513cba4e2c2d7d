"""/metrics and the log: what the service reports of itself, without a word of its clients."""

import json
import subprocess
import sys

from embed_foundry.serve.log import EventLog, Observers
from embed_foundry.serve.metrics import Metrics
from embed_foundry.serve.observer import Call, Event, Finished
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

REPORTS = """
import sys
from embed_foundry.serve.metrics import Metrics
from embed_foundry.serve.observer import Finished
from fastapi import FastAPI
from fastapi.testclient import TestClient

metrics = Metrics()
metrics.on_finished(Finished("openai", 200, "", 0.1, texts=2, tokens=9))
metrics.on_queue(3, 30)
app = FastAPI()
app.include_router(metrics.router())
sys.stdout.write(TestClient(app).get("/metrics").text)
"""


def report(observer) -> None:
    observer.on_call(Call("onnx_int8", 3, 21, 0.002, 0.011))
    observer.on_finished(Finished("openai", 200, "", 0.02, texts=3, tokens=21, cached=1))
    observer.on_finished(Finished("tei", 429, "overloaded", 0.001))
    observer.on_event(Event("loaded", "loaded onnx_int8 in 0.4 s", "onnx_int8"))
    observer.on_queue(4, 40)


def read(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_dashboards_of_tei_find_their_names():
    metrics = Metrics()
    report(metrics)
    app = FastAPI()
    app.include_router(metrics.router())
    client = TestClient(app)
    values = read(client.get("/metrics").text)
    assert values["te_request_count_total", "openai"] == 1
    assert values["te_request_success_total", "openai"] == 1
    assert values["te_request_failure_total", "tei", "overloaded"] == 1
    assert values["te_request_duration_sum", "openai"] == 0.02
    assert values["te_embed_inference_duration_count", "onnx_int8"] == 1
    assert values["te_batch_next_tokens_sum", "onnx_int8"] == 21
    assert values["te_queue_size",] == 4
    assert values["te_embed_cached_total", "openai"] == 1
    assert values["te_variants_loaded", "onnx_int8"] == 1
    assert "# EOF" in client.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text


def test_processes_on_one_port_answer_with_their_sum(tmp_path):
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    texts = [
        subprocess.run([sys.executable, "-c", REPORTS], env=environ, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert read(texts[1])["te_request_count_total", "openai"] == 2
    assert read(texts[1])["te_embed_tokens_total", "openai"] == 18


def test_the_log_has_events_and_requests_as_json(capsys):
    report(Observers([EventLog(requests=True), EventLog(requests=False)]))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.get("event") or line["request"] for line in lines] == ["openai", "tei", "loaded", "loaded"]
    assert lines[1]["reason"] == "overloaded"


def test_an_event_that_repeats_is_written_once_a_minute(capsys):
    log = EventLog(requests=False)
    for _ in range(50):
        log.on_event(Event("fallback", "static answered"))
    assert len(capsys.readouterr().err.splitlines()) == 1
