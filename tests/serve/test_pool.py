"""The variants in memory: when they are loaded, which one gives way, and what happens when one fails."""

import asyncio
import gc
import shutil
import weakref
from dataclasses import replace

import pytest
from embed_foundry import Bundle
from embed_foundry.encoders.onnx import OnnxEncoder
from embed_foundry.serve import memory, pool
from embed_foundry.serve.memory import tier_of

from support.running_engine import SETTINGS, Events, ask, block_text, refusal, run


@pytest.fixture
def broken(released, tmp_path):
    """Return a release that was verified before a disk lost the end of a graph."""
    folder = shutil.copytree(released.folder, tmp_path / "release")
    bundle = Bundle.load(folder)
    graph = folder / "variants" / "onnx_int8" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])
    return bundle


@pytest.fixture
def looks(monkeypatch):
    """Have the pool look at memory whenever a request comes."""
    monkeypatch.setattr(pool, "LOOK_S", 0)


@pytest.mark.parametrize(
    ("memory_mb", "models", "idle_s"),
    [(512, 1, 60), (2048, 1, 60), (2049, 2, 300), (4096, 2, 300), (8192, 3, 600), (8193, 5, 0), (None, 5, 0)],
)
def test_a_tier_says_how_many_models_stay_and_for_how_long(memory_mb, models, idle_s):
    """Requirement C: precision tiers of low-memory devices."""
    tier = tier_of(memory_mb)
    assert (tier.models, tier.idle_s) == (models, idle_s)


def test_requests_for_a_variant_that_loads_wait_for_one_load(released):
    events = Events()

    async def use(engine):
        answers = await asyncio.gather(*(ask(engine, f"text {number}") for number in range(8)))
        assert {answer.variant for answer in answers} == {"onnx_int8"}
        assert answers[0].timings.load_s > 0

    run(released.folder, use, observer=events)
    assert events.names("onnx_int8") == ["loading", "loaded"]


def test_a_client_that_leaves_does_not_end_the_load(released):
    events = Events()

    async def use(engine):
        left, stayed = asyncio.create_task(ask(engine, "a")), asyncio.create_task(ask(engine, "b"))
        await asyncio.sleep(0.02)
        left.cancel()
        assert (await stayed).variant == "onnx_int8"

    run(released.folder, use, observer=events)
    assert events.names("onnx_int8") == ["loading", "loaded"]


def test_a_load_that_takes_longer_than_a_deadline_goes_on(released):
    async def use(engine):
        assert (await refusal(engine, deadline_s=0.005)).reason.code == "deadline"
        assert (await ask(engine)).variant == "onnx_int8"

    run(released.folder, use)


def test_no_more_variants_are_in_memory_than_fit_whatever_is_asked_for(released):
    """A host of 2 GB keeps one: two at once would end the process."""
    events = Events()

    async def use(engine):
        models = ["onnx_int8", "static", "onnx_fp32"] * 4
        answers = await asyncio.gather(*(ask(engine, "a", model=model) for model in models))
        assert [answer.variant for answer in answers] == models

    run(released.folder, use, replace(SETTINGS, max_models=1, deadline_s=120), observer=events)
    in_memory = 0
    for event in events.events:
        in_memory += (event.name == "loading") - (event.name == "unloaded")
        assert in_memory <= 1


def test_a_variant_in_use_is_never_unloaded(released, monkeypatch):
    free = block_text(monkeypatch, "blocked")

    async def use(engine):
        await ask(engine, "warm")
        blocked = asyncio.create_task(ask(engine, "blocked"))
        await asyncio.sleep(0.05)
        refused = await refusal(engine, model="static", deadline_s=0.2)
        assert refused.reason.status == 429
        assert engine.loaded == ("onnx_int8",)
        other = asyncio.create_task(ask(engine, "a", model="static"))
        await asyncio.sleep(0.05)
        free.set()
        assert (await blocked).variant == "onnx_int8"
        assert (await other).variant == "static"
        assert engine.loaded == ("static",)

    run(released.folder, use, replace(SETTINGS, max_models=1))


def test_the_least_recently_used_gives_way(released):
    async def use(engine):
        for model in ("onnx_int8", "static", "onnx_int8", "onnx_fp32"):
            await ask(engine, model=model)
        assert sorted(engine.loaded) == ["onnx_fp32", "onnx_int8"]

    run(released.folder, use, replace(SETTINGS, max_models=2))


def test_an_idle_variant_is_unloaded_and_probes_do_not_keep_it(released, looks):
    events = Events()

    async def use(engine):
        await ask(engine, model="static")
        await ask(engine)
        await asyncio.sleep(0.3)
        await ask(engine, model="static", probe=True)
        assert engine.loaded == ("static",)
        await ask(engine, model="static")
        assert engine.loaded == ("static",)

    run(released.folder, use, replace(SETTINGS, idle_s=0.2), observer=events)
    assert events.names("onnx_int8") == ["loading", "loaded", "unloaded"]
    assert events.names("static")[:4] == ["loading", "loaded", "unloaded", "loading"]


@pytest.mark.parametrize(("pressure", "left"), [(0.7, 3), (0.8, 2), (0.95, 1)])
def test_a_shortage_of_memory_unloads_the_least_recently_used(released, monkeypatch, looks, pressure, left):
    """Requirement C: over 75 % one, over 90 % all but the one that is in use."""
    events = Events()

    async def use(engine):
        for model in ("static", "onnx_fp32", "onnx_int8"):
            await ask(engine, model=model)
        monkeypatch.setattr(memory, "read_pressure", lambda: pressure)
        engine.pool.look()
        assert engine.loaded == ("static", "onnx_fp32", "onnx_int8")[3 - left :]

    run(released.folder, use, observer=events)
    assert [event.name for event in events.events].count("pressure") == (left < 3)
    assert [event.name for event in events.events].count("unloaded") == 3 - left


def test_an_unloaded_variant_leaves_memory_though_lanes_computed_with_it(released):
    """Bug row 5 (TEI 156, infinity 517): memory grew without bound."""
    events = Events()

    async def use(engine):
        await asyncio.gather(*(ask(engine, f"text {number}", model="onnx_fp32") for number in range(8)))
        encoders = [weakref.ref(slot.loaded.encoder) for slot in engine.pool._slots.values()]
        before = memory.read_rss_mb()
        await ask(engine, model="static")
        await asyncio.sleep(0.05)
        gc.collect()
        assert [encoder() for encoder in encoders] == [None]
        assert before - memory.read_rss_mb() > 20  # its graph has 90 MB; the static table, loaded instead, has some

    run(released.folder, use, replace(SETTINGS, threads=2, lanes=2, max_models=1), observer=events)


def test_a_variant_that_cannot_be_loaded_is_skipped_and_not_tried_at_every_request(broken):
    """Bug row 4: the others answer, and say for whom."""
    events = Events()

    async def use(engine):
        for _ in range(3):
            answer = await ask(engine)
            assert answer.variant == "onnx_fp32"
            assert answer.skipped[0].startswith("onnx_int8: ")
        assert (await refusal(engine, expected_space="another")).reason.status == 409
        assert list(engine.failed) == ["onnx_int8"]

    run(broken, use, observer=events)
    assert events.names("onnx_int8") == ["loading", "load_failed"]
    assert [event.name for event in events.events].count("fallback") == 3


def test_a_variant_that_failed_is_tried_again_later(broken, monkeypatch):
    events = Events()
    monkeypatch.setattr(pool, "RETRY_S", 0.1)

    async def use(engine):
        await ask(engine)
        await asyncio.sleep(0.15)
        await ask(engine)

    run(broken, use, observer=events)
    assert events.names("onnx_int8") == ["loading", "load_failed"] * 2


def test_no_variant_of_another_space_answers_instead(released, monkeypatch):
    def fail(self, *args):
        raise MemoryError

    monkeypatch.setattr(OnnxEncoder, "__init__", fail)

    async def use(engine):
        refused = await refusal(engine)
        assert (refused.reason.status, refused.retry_after_s) == (503, 60)
        assert all(name in refused.message for name in ("onnx_int8", "onnx_fp32"))
        assert (await ask(engine, model="static")).variant == "static"

    run(released.folder, use)


def test_pressure_is_read_from_this_machine():
    assert 0 < memory.read_pressure() < 1
    assert memory.read_rss_mb() > 10
