"""/livez and /readyz: what an orchestrator reads, and what it rests on."""

import asyncio
import time

import pytest
from embed_foundry.serve import readiness
from embed_foundry.serve import service as service_module
from embed_foundry.serve.requests import EmbedRequest
from embed_foundry.serve.service import Service
from embed_foundry.serve.settings import Settings
from embed_foundry.serve.source import Watch

from support.served import serve
from support.served_releases import copy_release, corrupt, fail_self_test, read_readiness, replace_folder, wait_for
from support.traffic import ask


def test_a_variant_that_is_broken_at_the_start_gives_way_and_all_say_so(released, tmp_path):
    release = fail_self_test(copy_release(released.folder, tmp_path / "release"), "onnx_int8")
    with serve(release, tmp_path) as service:
        answer = service.client.post("/v1/embeddings", json={"input": "a"})
        assert answer.status_code == 200
        assert answer.headers["X-Variant"] == "onnx_fp32"
        assert "onnx_int8" in answer.headers["X-Fallback"]
        status, body = read_readiness(service.url)
        assert status == 200
        assert body["loaded"] == ["onnx_fp32"]
        assert "self-test" in body["failed"]["onnx_int8"]
        assert "onnx_int8" in body["fallback"][0]
        events = service.client.get("/metrics").text
        assert 'te_events_total{event="load_failed"}' in events


def test_without_a_variant_that_opens_it_lives_and_is_not_ready(first_release, tmp_path):
    folder = fail_self_test(copy_release(first_release, tmp_path / "release"), "static")
    with serve(folder, tmp_path) as service:
        refused = ask(service.url)
        assert refused.status == 503
        status, body = read_readiness(service.url)
        assert status == 503
        assert "self-test" in body["reason"]
        assert service.client.get("/livez").status_code == 200
        replace_folder(folder, first_release)  # and comes to life with a good release
        wait_for(lambda: ask(service.url).status == 200)
        assert read_readiness(service.url)[0] == 200


def test_idle_traffic_is_proved_by_probes(first_release, tmp_path):
    with serve(first_release, tmp_path) as service:
        wait_for(lambda: read_readiness(service.url)[0] == 200)
        time.sleep(readiness.PROBE_EVERY_S)
        wait_for(lambda: read_readiness(service.url)[1]["probe_age_s"] < readiness.PROBE_EVERY_S)
        status, body = read_readiness(service.url)
        assert (status, body["running"]) == (200, 0)


@pytest.fixture
def in_process(first_release, tmp_path, monkeypatch):
    """Return a function that runs a coroutine function with a service in this process, on a release of its own."""

    monkeypatch.setattr(service_module, "PROBE_EVERY_S", 0.5)

    def run(use, **settings):
        async def main():
            service = Service(Watch(copy_release(first_release, tmp_path / "release")), Settings(**settings))
            await service.start()
            try:
                await service.embed(EmbedRequest(("a",)))
                await use(service)
            finally:
                await service.close()

        asyncio.run(main())

    return run


def test_a_service_that_proves_nothing_is_not_ready_and_then_not_alive(in_process, monkeypatch):
    async def use(service):
        assert service.read_readiness().ready
        now = time.monotonic()
        monkeypatch.setattr(readiness.time, "monotonic", lambda: now + readiness.FRESH_S + 1)
        assert "nothing was computed for 16 s" in service.read_readiness().reason
        assert service.find_standstill() == "", "nothing waits"
        service.observer.expect()
        monkeypatch.setattr(readiness.time, "monotonic", lambda: now + 2 * readiness.STANDSTILL_S)
        assert "restart this process" in service.find_standstill()
        monkeypatch.undo()

    in_process(use)


async def until(condition):
    """Wait until a condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.05)


def test_a_probe_whose_vector_changed_makes_it_not_ready(in_process):
    async def use(service):
        encoder = service.engine.pool.find("static").encoder
        sound = encoder.table
        encoder.table = sound[::-1].copy()  # memory that went bad
        await until(lambda: "golden probe" in service.read_readiness().reason)
        encoder.table = sound
        await until(lambda: service.read_readiness().ready)

    in_process(use)


def test_a_probe_keeps_no_variant_in_memory(in_process):
    async def use(service):
        await until(lambda: service.read_readiness().loaded == ())
        assert service.read_readiness().ready
        answer = await service.embed(EmbedRequest(("a",)))
        assert answer.variant == "static"

    in_process(use, idle_s=1.0)


def test_the_last_good_release_stays_in_memory_while_its_folder_holds_a_bad_one(in_process, first_release, tmp_path):
    async def use(service):
        replace_folder(tmp_path / "release", corrupt(copy_release(first_release, tmp_path / "corrupt")))
        await until(lambda: service.read_readiness().notes)
        await asyncio.sleep(1.5)  # longer than it may be idle
        answer = await service.embed(EmbedRequest(("a",)))
        assert answer.variant == "static"

    in_process(use, idle_s=1.0)
