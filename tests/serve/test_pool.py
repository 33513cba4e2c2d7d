"""Variants in memory: loaded once, let go by the host's memory, replaced within their space when they break."""

import asyncio
from dataclasses import replace

import pytest
from embed_foundry import Bundle
from embed_foundry.serve import memory, pool
from embed_foundry.serve.engine import Engine
from embed_foundry.serve.memory import tier_of
from embed_foundry.serve.observer import Event, Observer
from embed_foundry.serve.requests import EmbedRequest
from embed_foundry.serve.settings import Settings

from support import small_release
from support.served_releases import copy_release, fail_self_test

SETTINGS = Settings(threads=1)


class Events(Observer):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def list(self, *names: str) -> list[tuple[str, str]]:
        return [(event.name, event.variant) for event in self.events if event.name in names]


def run(folder, use, settings=SETTINGS):
    """Run a coroutine function with an engine and the events that it reports."""

    async def main():
        events = Events()
        engine = Engine(Bundle.load(folder), settings, observer=events)
        try:
            return await use(engine, events)
        finally:
            await engine.close()

    return asyncio.run(main())


async def ask(engine, model):
    return (await engine.embed(EmbedRequest(("a",), model))).variant


@pytest.mark.parametrize(
    ("memory_mb", "models", "idle_s"),
    [(512, 1, 60), (2048, 1, 60), (2049, 2, 300), (4096, 2, 300), (8192, 3, 600), (8193, 5, 0), (None, 5, 0)],
)
def test_tiers_of_memory(memory_mb, models, idle_s):
    assert (tier_of(memory_mb).models, tier_of(memory_mb).idle_s) == (models, idle_s)


def test_many_requests_wait_for_one_load(released):
    async def use(engine, events):
        await asyncio.gather(*(ask(engine, "static") for _ in range(20)))
        assert events.list("loading") == [("loading", "static")]

    run(released.folder, use)


def test_at_most_so_many_stay_and_the_longest_unused_leaves(released):
    async def use(engine, events):
        for name in ("static", "onnx_int8", "static", "onnx_fp32"):
            assert await ask(engine, name) == name
        assert set(engine.loaded) == {"static", "onnx_fp32"}
        assert events.list("unloaded") == [("unloaded", "onnx_int8")]
        assert await ask(engine, "onnx_int8") == "onnx_int8"  # it comes back

    run(released.folder, use, replace(SETTINGS, max_models=2))


def test_an_idle_variant_leaves_and_a_probe_does_not_keep_it(released, monkeypatch):
    async def use(engine, events):
        await ask(engine, "static")
        await asyncio.sleep(0.3)
        await engine.embed(EmbedRequest(("probe",), "onnx_int8", probe=True))
        await asyncio.sleep(0.3)
        engine.pool.look()
        assert engine.loaded == ()
        assert events.list("unloaded") == [("unloaded", "static"), ("unloaded", "onnx_int8")]

    monkeypatch.setattr(pool, "LOOK_S", 0)
    run(released.folder, use, replace(SETTINGS, idle_s=0.2))


@pytest.mark.parametrize(("pressure", "left"), [(0.7, 3), (0.8, 2), (0.95, 1)])
def test_variants_leave_where_memory_is_short(released, monkeypatch, pressure, left):
    async def use(engine, events):
        for name in ("static", "onnx_int8", "onnx_fp32"):
            await ask(engine, name)
        monkeypatch.setattr(memory, "read_pressure", lambda: pressure)
        engine.pool.look()
        assert len(engine.loaded) == left
        assert "onnx_fp32" in engine.loaded  # the last one used stays
        assert ("pressure", "") in events.list("pressure") or left == 3

    monkeypatch.setattr(pool, "LOOK_S", 0)
    monkeypatch.setattr(memory, "read_pressure", lambda: 0.0)
    run(released.folder, use)


def test_a_broken_variant_is_replaced_within_its_space_and_said(released, tmp_path):
    """The space has onnx_int8 and onnx_fp32; static is of another one and never stands in."""
    folder = fail_self_test(copy_release(released.folder, tmp_path / "release"), "onnx_int8")
    small_release.seal(folder)

    async def use(engine, events):
        for model in ("onnx_int8", "auto"):
            answer = await engine.embed(EmbedRequest(("a",), model))
            assert answer.variant == "onnx_fp32"
            assert answer.skipped[0].startswith("onnx_int8: self-test")
        assert events.list("load_failed") == [("load_failed", "onnx_int8")]  # not tried again for a minute

    run(folder, use)


def test_pressure_is_read_from_this_machine():
    assert 0 < memory.read_pressure() < 1
    assert memory.read_rss_mb() > 10
