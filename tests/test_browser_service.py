"""The service that all tabs of a browser share: variants by memory, one worker, progress, cancelling, unloading."""

import numpy as np
import pytest

from support.browser_pages import OPEN, TEXTS, encode, fail, list_events, wait_for_event
from support.chromium import needs_chromium


@needs_chromium
@pytest.mark.parametrize(("memory", "variant"), [(2, "onnx_w4"), (4, "onnx_w4"), (8, "onnx_int8"), (16, "onnx_int8")])
def test_the_devices_memory_chooses_the_variant(server, visit, memory, variant):
    script = """async (memory) => {
      const { chooseTier, listVariants } = await import("/browser/tiers.js");
      return listVariants(await (await fetch("/bundle.json")).json(), chooseTier(memory));
    }"""
    order = visit(server).evaluate(script, memory)
    assert order[0] == variant
    assert "static" not in order, "it has a vector space of its own"


@needs_chromium
def test_two_tabs_share_one_service_and_the_second_goes_on_when_the_first_is_closed(server, visit):
    first, second = visit(server, "shared"), visit(server, "shared")
    first.evaluate(OPEN, {"variant": "static"})
    second.evaluate(OPEN, {"variant": "static"})
    expected, _ = encode(first)
    assert server.requests.count("variants/static/table.safetensors") == 1
    vectors, result = encode(second)
    assert (first.evaluate("encoder.serving"), second.evaluate("encoder.serving")) == (True, False)
    assert result["cached"] == len(TEXTS), "what one tab encoded, the other finds in the cache"
    assert np.array_equal(vectors, expected)
    first.close()
    vectors, result = encode(second)
    assert np.array_equal(vectors, expected)
    assert result["cached"] == 0
    assert second.evaluate("encoder.serving")


@needs_chromium
def test_a_call_in_progress_outlives_the_tab_that_served_it(server, visit):
    first, second = visit(server, "shared"), visit(server, "shared")
    first.evaluate(OPEN, {"variant": "onnx_w4"})
    second.evaluate(OPEN, {"variant": "onnx_w4"})
    texts = [f"{number} cats sleep on a sofa" for number in range(60)]
    second.evaluate("(texts) => { window.call = encoder.encode(texts); }", texts)
    first.close()
    assert second.evaluate("call.then(({ vectors }) => vectors.length)") == 60


@needs_chromium
def test_loading_shows_progress_and_can_be_cancelled(server, visit):
    server.pause_s = 0.05
    page = visit(server)
    work = """async () => {
      const { openBundle } = await import("/browser/embed-foundry.js");
      const controller = new AbortController();
      window.events = [];
      const onevent = (event) => {
        window.events.push(event);
        if (event.phase === "download" && event.loaded > 4e6) controller.abort();
      };
      await openBundle({ variant: "onnx_w4", signal: controller.signal, onevent });
    }"""
    assert fail(page, work)["name"] == "AbortError"
    progress = [event for event in list_events(page, "progress") if event["phase"] == "download"]
    assert [event["loaded"] for event in progress] == sorted(event["loaded"] for event in progress)
    assert progress[-1]["loaded"] < progress[-1]["total"]
    received = len(list_events(page, "progress"))
    page.wait_for_timeout(300)
    assert len(list_events(page, "progress")) == received, "nothing is loaded any more"
    server.pause_s = 0
    assert page.evaluate(OPEN, {"variant": "onnx_w4"})["variant"] == "onnx_w4"


@needs_chromium
def test_a_cancelled_call_ends_between_two_steps(server, visit):
    page = visit(server)
    page.evaluate(OPEN, {"variant": "onnx_w4"})
    work = """async () => {
      const texts = Array.from({ length: 2000 }, (_, number) => `text number ${number}`);
      await encoder.encode(texts, { signal: AbortSignal.timeout(300) });
    }"""
    assert fail(page, work)["name"] in ("AbortError", "TimeoutError")
    _, result = encode(page, ["text number 0"])
    assert result["cached"] == 1, "what was computed before is kept"


@needs_chromium
def test_an_unused_variant_is_unloaded_and_comes_back_from_the_browsers_storage(server, visit):
    page = visit(server)
    page.evaluate(OPEN, {"variant": "onnx_w4", "idleMs": 1000})
    before, result = encode(page)
    assert result["memoryMb"] > 10
    wait_for_event(page, "unload", variant="onnx_w4", reason="idle")
    server.requests.clear()
    _, result = encode(page, [f"{text}." for text in TEXTS])
    assert result["memoryMb"] > 10
    assert not [name for name in server.requests if name.endswith((".onnx", ".wasm"))], "they were fetched again"
    again, result = encode(page)
    assert result["cached"] == len(TEXTS)
    assert np.array_equal(again, before)


@needs_chromium
def test_a_small_device_holds_one_variant_at_a_time(server, visit):
    page = visit(server)
    page.evaluate(OPEN, {"variant": "onnx_w4", "deviceMemory": 2})
    page.evaluate(OPEN.replace("window.encoder", "window.second"), {"variant": "static", "deviceMemory": 2})
    wait_for_event(page, "unload", variant="onnx_w4", reason="limit")
    vectors, _ = encode(page, ["a"])
    assert vectors.shape == (1, 384)


@needs_chromium
def test_memory_pressure_is_said_and_unloads_what_was_used_least_recently(server, visit):
    page = visit(server)
    used = page.evaluate(OPEN, {"variant": "onnx_w4"})["memoryMb"]
    page.evaluate(OPEN, {"variant": "onnx_w4", "memoryMb": used / 0.88})
    [event] = list_events(page, "pressure")
    assert event["level"] == "high"
    page.evaluate(OPEN.replace("window.encoder", "window.second"), {"variant": "static", "memoryMb": used / 0.88})
    assert {event["level"] for event in list_events(page, "pressure")} == {"critical"}
    assert {(event["variant"], event["reason"]) for event in list_events(page, "unload")} == {("onnx_w4", "pressure")}


@needs_chromium
def test_the_cache_is_bounded_and_keeps_what_is_asked_for_often(server, visit):
    script = """async () => {
      const { VectorCache } = await import("/browser/cache.js");
      const cache = new VectorCache(100_000);
      const entry = () => ({ vector: new Float32Array(100) });
      cache.set("often", entry());
      cache.get("often");
      let most = 0;
      for (let number = 0; number < 5000; number++) {
        cache.set(`once ${number}`, entry());
        most = Math.max(most, cache.bytes);
      }
      cache.set("huge", { vector: new Float32Array(1e6) });
      const all = ["often", "once 0", "once 4999", "huge"].map((key) => Boolean(cache.get(key)));
      for (let number = 4900; number < 5000; number++) cache.get(`once ${number}`);
      const bytes = cache.bytes;
      cache.clear();
      return { all, most, bytes, cleared: cache.bytes };
    }"""
    facts = visit(server).evaluate(script)
    assert facts["all"] == [True, False, True, False]
    assert 50_000 < facts["most"] <= 100_000
    assert facts["bytes"] <= 100_000
    assert facts["cleared"] == 0
