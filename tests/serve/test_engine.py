"""The engine through its public methods, on the small release: what it answers, refuses and computes once."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from embed_foundry import Bundle, open_bundle
from embed_foundry.serve.batching import Load
from embed_foundry.serve.cache.memory import MemoryCache
from embed_foundry.serve.requests import EmbedRequest

from support.running_engine import SETTINGS, ask, block_text, flatten, refusal, run, watch_calls


def test_dimensions_are_cut_and_renormalised(released):
    """Bug row 12 (vllm 15465, infinity 519)."""

    async def use(engine):
        for out_of_range in (0, 385, -1):
            refused = await refusal(engine, dimensions=out_of_range)
            assert (refused.reason.code, refused.param) == ("invalid_input", "dimensions")
        assert engine.loaded == ()  # nothing is loaded for a request that cannot be answered
        answer = await ask(engine, "a b", "c", dimensions=128)
        assert np.allclose(np.linalg.norm(answer.vectors, axis=1), 1)
        return answer.vectors

    encoder = open_bundle(released.folder, "onnx_int8", threads=1)
    alone = [encoder.encode([text], dimensions=128) for text in ("a b", "c")]
    assert run(released.folder, use).tobytes() == np.concatenate(alone).tobytes()


def test_what_a_long_text_loses_is_told_or_refused(released):
    """Bug row 7 (ollama 14186, omlx 1687)."""
    long = "word " * 600

    async def use(engine):
        answer = await ask(engine, "short", long)
        assert answer.truncated == (1,)
        assert answer.tokens[1] == 256
        refused = await refusal(engine, "short", long, truncate=False)
        assert refused.reason.code == "input_too_long"
        assert "text 1 has 602 tokens, this model takes 256" in refused.message

    run(released.folder, use)


def test_refusals_name_what_is_wrong(released):
    async def use(engine):
        assert (await refusal(engine, model="gpt")).reason.status == 404
        assert "no prompts" in (await refusal(engine, prompt="query")).message
        other = await refusal(engine, expected_space="another")
        assert (other.reason.status, engine.loaded) == (409, ())  # refused before anything is loaded
        assert (await refusal(engine, "fine", "\ud800")).reason.code == "invalid_input"

    run(released.folder, use)


def test_a_request_without_texts_is_refused(released):
    """Bug row 13 (TEI 727, 818)."""

    async def use(engine):
        with pytest.raises(Exception, match="no text to embed") as caught:
            await engine.embed(EmbedRequest(()))
        assert caught.value.reason.status == 400

    run(released.folder, use)


def test_a_text_that_one_request_repeats_is_computed_once(released, monkeypatch):
    calls = watch_calls(monkeypatch)

    async def use(engine):
        await ask(engine, "warm")
        calls.clear()
        answer = await ask(engine, "same", "other", "same", "same")
        assert sorted(flatten(calls)) == ["other", "same"]
        assert answer.vectors[0].tobytes() == answer.vectors[2].tobytes() == answer.vectors[3].tobytes()
        assert answer.vectors[0].tobytes() != answer.vectors[1].tobytes()

    run(released.folder, use)


def test_a_text_that_requests_ask_for_at_once_is_computed_once(released, monkeypatch):
    calls = watch_calls(monkeypatch, seconds=0.1)

    async def use(engine):
        await ask(engine, "warm")
        calls.clear()
        first = asyncio.create_task(ask(engine, "a", "shared"))
        await asyncio.sleep(0.05)
        answers = await asyncio.gather(first, ask(engine, "shared"), ask(engine, "shared", "a", dimensions=128))
        assert sorted(flatten(calls)) == ["a", "shared"]
        assert answers[0].vectors[1].tobytes() == answers[1].vectors[0].tobytes()

    run(released.folder, use)


def test_a_shared_text_outlives_the_request_that_came_first(released, monkeypatch):
    calls = watch_calls(monkeypatch, seconds=0.1)

    async def use(engine):
        await ask(engine, "warm")
        calls.clear()
        running = asyncio.create_task(ask(engine, "running"))
        await asyncio.sleep(0.05)
        first = asyncio.create_task(ask(engine, "shared", "own"))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(ask(engine, "shared"))
        await asyncio.sleep(0.01)
        first.cancel()
        assert len((await second).vectors) == 1
        await running
        assert flatten(calls) == ["running", "shared"]

    run(released.folder, use)


def test_a_shared_text_comes_at_the_turn_of_whoever_is_first(released, monkeypatch):
    """A question does not wait for its place among the passages of another request."""
    calls = watch_calls(monkeypatch, seconds=0.02)

    async def use(engine):
        await ask(engine, "warm")
        calls.clear()
        passages = [f"passage {number}" for number in range(30)]
        bulk = asyncio.create_task(ask(engine, *passages))
        await asyncio.sleep(0.03)
        await ask(engine, passages[-1])
        assert len(calls) < 10
        answer = await bulk
        assert len(calls) == 30
        assert len(np.unique(answer.vectors, axis=0)) == 30

    run(released.folder, use)


def test_the_cache_answers_with_the_same_bytes_and_says_so(released, monkeypatch):
    calls = watch_calls(monkeypatch)
    texts = ("kept", "also kept")

    async def use(engine):
        first = await ask(engine, *texts)
        calls.clear()
        second = await ask(engine, *texts, "new")
        shorter = await ask(engine, *texts, dimensions=128)
        other = await ask(engine, *texts, model="onnx_fp32")
        assert (first.cached, second.cached, shorter.cached, other.cached) == (0, 2, 2, 0)
        assert second.vectors[:2].tobytes() == first.vectors.tobytes()
        assert shorter.vectors.tobytes() == encoder.encode(list(texts), dimensions=128).tobytes()
        calls.clear()
        await ask(engine, *texts, probe=True)
        assert len(flatten(calls)) == 2

    encoder = open_bundle(released.folder, "onnx_int8", threads=1)
    run(released.folder, use, cache=MemoryCache(1 << 20))


def test_releases_share_vectors_only_of_the_same_files(released):
    """Bug row 11 (ollama 7085, TEI 753): two tables may agree on every probe, and differ for another word."""

    async def use(engine):
        return (await ask(engine, "kept", model="static")).cached

    cache, bundle = MemoryCache(1 << 20), Bundle.load(released.folder)
    variants = bundle.contract.variants
    changed = variants | {"static": replace(variants["static"], digest="0" * 64)}
    other = replace(bundle, contract=replace(bundle.contract, variants=changed))
    cached = [run(release, use, cache=cache) for release in (bundle, bundle, other)]
    assert cached == [0, 1, 0]


def test_it_says_what_is_loaded_waits_and_failed(released, monkeypatch):
    free = block_text(monkeypatch, "blocked")

    async def use(engine):
        await ask(engine, "a")
        blocked = asyncio.create_task(ask(engine, "blocked"))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(ask(engine, "waits here"))
        await asyncio.sleep(0.05)
        load = engine.lanes.load
        free.set()
        await asyncio.gather(blocked, waiting)
        assert (load.texts, load.cost > 0) == (1, True)
        assert engine.lanes.load == Load()
        assert (engine.loaded, engine.failed) == (("onnx_int8",), {})

    run(released.folder, use, SETTINGS)
