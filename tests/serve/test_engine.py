"""The engine through its public methods, on the small release: bytes, refusals, failures, clients that leave."""

import asyncio
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from embed_foundry import Bundle, open_bundle
from embed_foundry.encoders.onnx import OnnxEncoder
from embed_foundry.serve.cache.memory import MemoryCache
from embed_foundry.serve.engine import Engine
from embed_foundry.serve.refusals import RefusalError
from embed_foundry.serve.requests import EmbedRequest
from embed_foundry.serve.settings import Settings

VARIANTS = ("onnx_int8", "onnx_fp32", "static")
WORDS = [
    "the",
    "bucket",
    "key",
    "list",
    "object",
    "policy",
    "role",
    "user",
    "café",
    "данные",
    "模型",
    "query",
    "when",
    "a",
]
SETTINGS = Settings(threads=1)


def make_texts(chance: random.Random, count: int) -> tuple[str, ...]:
    return tuple(" ".join(chance.choices(WORDS, k=chance.randint(0, 30))) for _ in range(count))


def run(released, use, settings=SETTINGS, cache=None):
    """Run a coroutine function with an engine on the release."""

    async def main():
        engine = Engine(Bundle.load(released.folder), settings, cache)
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(main())


def watch_calls(monkeypatch, seconds: float = 0.0) -> list[int]:
    """Return a list to which each call of an ONNX graph adds how many texts it has, after so many seconds."""
    calls, embed = [], OnnxEncoder.embed

    def slow(self, rows):
        calls.append(len(rows))
        time.sleep(seconds)
        return embed(self, rows)

    monkeypatch.setattr(OnnxEncoder, "embed", slow)
    return calls


async def refusal(engine, **request) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        await engine.embed(EmbedRequest(**{"texts": ("a",), **request}))
    return caught.value


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_byte_depends_on_what_a_text_is_batched_with(released, variant, lanes):
    """Bug row 9 (ollama 6262, TEI 648)."""
    chance = random.Random(variant)
    texts = make_texts(chance, 60)
    encoder = open_bundle(released.folder, variant, threads=1)
    alone = {text: encoder.encode([text])[0].tobytes() for text in texts}

    async def ask(engine):
        async def client():
            for _ in range(6):
                chosen = tuple(chance.choices(texts, k=chance.choice([1, 1, 2, 7])))
                answer = await engine.embed(EmbedRequest(chosen, variant))
                assert [vector.tobytes() for vector in answer.vectors] == [alone[text] for text in chosen]

        await asyncio.gather(*(client() for _ in range(12)))

    run(released, ask, replace(SETTINGS, threads=lanes, lanes=lanes))


def test_dimensions_are_cut_and_renormalised(released):
    """Bug row 12."""

    async def ask(engine):
        answer = await engine.embed(EmbedRequest(("a b", "c"), "onnx_int8", dimensions=128))
        assert (
            answer.vectors.tobytes()
            == np.concatenate([encoder.encode([text], dimensions=128) for text in ("a b", "c")]).tobytes()
        )
        assert (await refusal(engine, dimensions=385)).reason.code == "invalid_input"
        assert (await refusal(engine, dimensions=0)).reason.code == "invalid_input"

    encoder = open_bundle(released.folder, "onnx_int8", threads=1)
    run(released, ask)


def test_what_a_long_text_loses_is_told_or_refused(released):
    """Bug row 7."""
    long = "word " * 600

    async def ask(engine):
        answer = await engine.embed(EmbedRequest(("short", long), "onnx_int8"))
        assert answer.truncated == (1,)
        assert answer.tokens[1] == 256
        refused = await refusal(engine, texts=("short", long), truncate=False)
        assert refused.reason.code == "input_too_long"
        assert "text 1 has 602 tokens, this model takes 256" in refused.message

    run(released, ask)


def test_refusals_name_what_is_wrong(released):
    async def ask(engine):
        assert (await refusal(engine, texts=())).reason.code == "empty_input"
        assert (await refusal(engine, model="gpt")).reason.status == 404
        assert "no prompts" in (await refusal(engine, prompt="query")).message
        other = await refusal(engine, expected_space="another")
        assert (other.reason.status, engine.loaded) == (409, ())  # refused before anything is loaded
        assert (await refusal(engine, texts=("\ud800",))).reason.code == "invalid_input"

    run(released, ask)


def test_a_client_that_leaves_costs_no_call(released, monkeypatch):
    """Bug row 16."""
    calls = []
    embed = OnnxEncoder.embed
    monkeypatch.setattr(
        OnnxEncoder, "embed", lambda self, rows: (calls.append(len(rows)), time.sleep(0.2), embed(self, rows))[2]
    )

    async def ask(engine):
        await engine.embed(EmbedRequest(("warm",), "onnx_int8"))
        calls.clear()
        running = asyncio.create_task(engine.embed(EmbedRequest(("first",), "onnx_int8")))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(engine.embed(EmbedRequest(tuple("abcdefgh"), "onnx_int8")))
        await asyncio.sleep(0.05)
        left.cancel()
        await running
        answer = await engine.embed(EmbedRequest(("last",), "onnx_int8"))
        assert len(answer.vectors) == 1
        assert sum(calls) == 2
        await asyncio.sleep(0.2)  # the lane drops what nobody waits for when it looks for its next call
        assert (engine.lanes.waiting_texts, engine.lanes.waiting_tokens) == (0, 0)

    run(released, ask)


def test_a_full_queue_refuses_and_recovers(released, monkeypatch):
    watch_calls(monkeypatch, seconds=0.05)

    async def ask(engine):
        asked = [engine.embed(EmbedRequest((f"text {number}",), "onnx_int8")) for number in range(40)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, RefusalError)]
        assert 0 < len(refused) < 40
        assert {answer.reason.status for answer in refused} == {429}
        assert all(answer.retry_after_s >= 1 for answer in refused)
        await engine.embed(EmbedRequest(("after",), "onnx_int8"))

    run(released, ask, replace(SETTINGS, max_queued_tokens=50))


def test_what_waits_past_its_deadline_is_refused(released, monkeypatch):
    watch_calls(monkeypatch, seconds=0.3)

    async def ask(engine):
        await engine.pool.lease(("onnx_int8",), time.monotonic() + 60).__aenter__()
        first = asyncio.create_task(engine.embed(EmbedRequest(("a",), "onnx_int8")))
        await asyncio.sleep(0.05)
        assert (await refusal(engine, texts=("b",), model="onnx_int8", deadline_s=0.1)).reason.code == "deadline"
        await first

    run(released, ask)


def test_one_bad_call_fails_only_what_fails_alone(released, monkeypatch):
    """Bug row 4 (infinity 609, 242): one bad input poisoned the worker; row 10 (ollama 12921): NaN in an answer."""
    embed = OnnxEncoder.embed

    def poisoned(self, rows):
        vectors = embed(self, rows)
        for number, row in enumerate(rows):
            if "poison" in row.text:
                vectors[number] = np.nan
        return vectors

    async def ask(engine):
        await engine.embed(EmbedRequest(("warm",), "onnx_int8"))
        monkeypatch.setattr(OnnxEncoder, "embed", poisoned)
        texts = [("fine",), ("poison",), ("good",)]
        answers = await asyncio.gather(
            *(engine.embed(EmbedRequest(text, "onnx_int8")) for text in texts), return_exceptions=True
        )
        assert isinstance(answers[1], RefusalError)
        assert answers[1].reason.code == "unsound_vector"
        assert [len(answer.vectors) for answer in (answers[0], answers[2])] == [1, 1]
        after = await engine.embed(
            EmbedRequest(("after",), "onnx_int8")
        )  # the variant is out; the next of its space answers
        assert after.variant == "onnx_fp32"
        assert "unsound" in after.skipped[0] or "not finite" in after.skipped[0]

    run(released, ask)


def test_identical_texts_are_computed_once(released, monkeypatch):
    calls = watch_calls(monkeypatch)

    async def ask(engine):
        await engine.embed(EmbedRequest(("warm",), "onnx_int8"))
        calls.clear()
        answer = await engine.embed(EmbedRequest(("same", "other", "same", "same"), "onnx_int8"))
        assert sum(calls) == 2
        assert answer.vectors[0].tobytes() == answer.vectors[2].tobytes() == answer.vectors[3].tobytes()
        assert answer.vectors[0].tobytes() != answer.vectors[1].tobytes()

    run(released, ask)


def test_the_cache_answers_with_the_same_bytes_and_says_so(released, monkeypatch):
    calls = watch_calls(monkeypatch)
    texts = ("kept", "also kept")

    async def ask(engine):
        first = await engine.embed(EmbedRequest(texts, "onnx_int8"))
        calls.clear()
        second = await engine.embed(EmbedRequest((*texts, "new"), "onnx_int8"))
        shorter = await engine.embed(EmbedRequest(texts, "onnx_int8", dimensions=128))
        other = await engine.embed(EmbedRequest(texts, "onnx_fp32"))
        assert (first.cached, second.cached, shorter.cached, other.cached) == (0, 2, 2, 0)
        assert second.vectors[:2].tobytes() == first.vectors.tobytes()
        assert shorter.vectors.tobytes() == encoder.encode(list(texts), dimensions=128).tobytes()
        calls.clear()
        await engine.embed(EmbedRequest(texts, "onnx_int8", probe=True))
        assert sum(calls) == 2

    encoder = open_bundle(released.folder, "onnx_int8", threads=1)
    run(released, ask, cache=MemoryCache(1 << 20))
