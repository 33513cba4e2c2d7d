"""The lanes through the engine: many requests at once, texts that hang or fail, clients that leave, full queues."""

import asyncio
import random
import time
from dataclasses import replace

import numpy as np
from embed_foundry.encoders.onnx import OnnxEncoder
from embed_foundry.serve.batching import Load
from embed_foundry.serve.refusals import RefusalError

from support.random_batchings import make_texts
from support.running_engine import SETTINGS, ask, block_text, flatten, refusal, run, watch_calls


def test_a_text_over_the_budget_is_answered(released):
    """Bug row 1 (TEI 723): an endless loop."""

    async def use(engine):
        answer = await ask(engine, "a", "word " * 100, "b", model="static")
        return answer.tokens

    assert max(run(released.folder, use, replace(SETTINGS, batch_tokens=8))) > 8


def test_a_text_that_hangs_is_refused_at_its_deadline_and_others_are_answered(released, monkeypatch):
    """Bug row 2 (TEI 694)."""
    free = block_text(monkeypatch, "hangs")

    async def use(engine):
        await ask(engine, "warm")
        started = time.monotonic()
        hanging = asyncio.create_task(refusal(engine, "hangs", "fine", deadline_s=0.5))
        for number in range(5):
            await ask(engine, f"text {number}")
        refused = await hanging
        assert refused.reason.code == "deadline"
        assert 0.4 < time.monotonic() - started < 5
        assert (await ask(engine, "after")).variant == "onnx_int8"
        free.set()

    run(released.folder, use, replace(SETTINGS, threads=2, lanes=2))


def test_mixed_lengths_at_once_never_lock_each_other(released):
    """Bug row 3 (TEI 97, sglang 22518): a deadlock under mixed lengths, or after the first full batch."""
    chance = random.Random(0)
    texts = make_texts(chance, 200)

    async def use(engine):
        async def client(model):
            for _ in range(5):
                await ask(engine, *chance.choices(texts, k=chance.choice([1, 2, 64])), model=model)

        clients = [client(model) for model in ("static", "onnx_int8") for _ in range(8)]
        await asyncio.wait_for(asyncio.gather(*clients), 240)
        assert engine.lanes.load == Load()

    run(released.folder, use, replace(SETTINGS, threads=2, lanes=2, batch_tokens=64, deadline_s=240))


def test_one_bad_text_fails_only_its_own_request(released, monkeypatch):
    """Bug row 4 (infinity 609, 242): one bad input poisoned the worker; row 10 (ollama 12921): NaN in an answer."""
    embed = OnnxEncoder.embed

    def poisoned(self, rows):
        vectors = embed(self, rows)
        for number, row in enumerate(rows):
            if "poison" in row.text:
                vectors[number] = np.nan if "nan" in row.text else 0
            if "crash" in row.text:
                raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION")
        return vectors

    async def use(engine):
        await ask(engine, "warm")
        monkeypatch.setattr(OnnxEncoder, "embed", poisoned)
        for bad, reason in (
            ("poison nan", "unsound_vector"),
            ("poison zero", "unsound_vector"),
            ("crash", "unavailable"),
        ):
            answers = await asyncio.gather(
                ask(engine, "fine"), ask(engine, "good", bad), ask(engine, "better"), return_exceptions=True
            )
            assert answers[1].reason.code == reason
            assert [answer.variant for answer in (answers[0], answers[2])] == ["onnx_int8"] * 2
        for _ in range(5):  # however often a client sends it
            await refusal(engine, "poison nan")
        assert (await ask(engine, "after")).variant == "onnx_int8"

    run(released.folder, use)


def test_a_call_that_several_requests_share_fails_only_what_fails_alone(released, monkeypatch):
    """Bug row 4, where texts share a call."""
    from embed_foundry.encoders.static import StaticEncoder

    embed, calls = StaticEncoder.embed, []

    def poisoned(self, rows):
        calls.append(len(rows))
        time.sleep(0.1 if len(calls) == 1 else 0)
        vectors = embed(self, rows)
        vectors[[row.text == "poison" for row in rows]] = np.inf
        return vectors

    async def use(engine):
        await ask(engine, "warm", model="static")
        monkeypatch.setattr(StaticEncoder, "embed", poisoned)
        running = asyncio.create_task(ask(engine, "running", model="static"))
        await asyncio.sleep(0.05)
        requests = [("fine", "good"), ("poison",), ("better",)]
        answers = await asyncio.gather(
            *(ask(engine, *texts, model="static") for texts in requests), return_exceptions=True
        )
        await running
        assert [isinstance(answer, RefusalError) for answer in answers] == [False, True, False]
        assert calls == [1, 4, 1, 1, 1, 1]

    run(released.folder, use)


def test_a_variant_that_fails_for_text_after_text_gives_way_to_the_next_of_its_space(released, monkeypatch):
    embed = OnnxEncoder.embed
    broken = lambda self, rows: embed(self, rows) * (np.nan if self.variant.name == "onnx_int8" else 1)  # noqa: E731

    async def use(engine):
        await ask(engine, "warm")
        monkeypatch.setattr(OnnxEncoder, "embed", broken)
        for text in "abc":
            assert (await refusal(engine, text)).reason.code == "unsound_vector"
        answer = await ask(engine, "d")
        assert answer.variant == "onnx_fp32"
        assert "not finite" in answer.skipped[0]
        assert "not finite" in engine.failed["onnx_int8"]

    run(released.folder, use)


def test_two_lanes_compute_at_once(released, monkeypatch):
    """Bug row 14 (ollama 8778): batches were computed one after the other, so bigger was slower."""
    watch_calls(monkeypatch, seconds=0.1)

    async def use(engine):
        await ask(engine, "warm")
        started = time.monotonic()
        await ask(engine, *"abcdefgh")
        return time.monotonic() - started

    one, two = (run(released.folder, use, replace(SETTINGS, threads=lanes, lanes=lanes)) for lanes in (1, 2))
    assert one > 0.8
    assert two < 0.75 * one


def test_a_client_that_leaves_costs_no_call(released, monkeypatch):
    """Bug row 16."""
    calls = watch_calls(monkeypatch, seconds=0.2)

    async def use(engine):
        await ask(engine, "warm")
        calls.clear()
        running = asyncio.create_task(ask(engine, "first"))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(ask(engine, *"abcdefgh"))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.sleep(0.01)
        assert engine.lanes.load == Load()  # it leaves at once, not when its turn comes
        await running
        await ask(engine, "last")
        assert flatten(calls) == ["first", "last"]

    run(released.folder, use)


def test_a_full_queue_refuses_and_recovers(released, monkeypatch):
    watch_calls(monkeypatch, seconds=0.05)

    async def use(engine):
        asked = [ask(engine, f"text {number}") for number in range(40)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, RefusalError)]
        assert 0 < len(refused) < 40
        assert {answer.reason.status for answer in refused} == {429}
        assert all(answer.retry_after_s >= 1 for answer in refused)
        await ask(engine, "after")

    run(released.folder, use, replace(SETTINGS, max_queued_tokens=50))


def test_a_request_that_would_outlast_its_deadline_is_refused_at_once(released, monkeypatch):
    watch_calls(monkeypatch, seconds=0.1)

    async def use(engine):
        await ask(engine, "warm")
        bulk = asyncio.create_task(ask(engine, *(f"text {number}" for number in range(10))))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        refused = await refusal(engine, *(f"other {number}" for number in range(10)), deadline_s=0.5)
        assert (refused.reason.code, time.monotonic() - started < 0.1) == ("overloaded", True)
        await ask(engine, "short", deadline_s=1)  # its turn comes soon, however much waits
        await bulk

    run(released.folder, use)


def test_what_waits_past_its_deadline_is_refused_then_and_not_computed(released, monkeypatch):
    calls = watch_calls(monkeypatch, seconds=0.3)

    async def use(engine):
        await ask(engine, "warm", model="onnx_int8")
        calls.clear()
        engine.lanes._speeds.clear()  # nothing is known that would refuse it at once
        first = asyncio.create_task(ask(engine, "a"))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        assert (await refusal(engine, "b", deadline_s=0.1)).reason.code == "deadline"
        assert time.monotonic() - started < 0.2
        await first
        await ask(engine, "c")
        assert flatten(calls) == ["a", "c"]

    run(released.folder, use)


def test_who_waits_when_the_engine_closes_is_refused(released, monkeypatch):
    watch_calls(monkeypatch, seconds=0.2)

    async def use(engine):
        await ask(engine, "warm")
        running, waiting = asyncio.create_task(ask(engine, "a")), asyncio.create_task(refusal(engine, *"bcd"))
        await asyncio.sleep(0.05)
        await engine.close()
        assert (await waiting).reason.code == "unavailable"
        assert len((await running).vectors) == 1

    run(released.folder, use)
