"""The bundle for browsers: what a page gets from it, in headless Chromium."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import InputError, IntegrityError, TruncationWarning, manifest, open_variant

from stages.bundle import browser as stage
from stages.bundle import npm
from support.browser_pages import OPEN, TEXTS, encode, fail, list_events
from support.chromium import needs_chromium
from support.served_releases import fail_self_test
from support.web_server import WebServer


def test_the_bundle_holds_the_runtime_its_packages_and_their_terms(browser_release, root):
    names = set(manifest.files_of(browser_release))
    sources = {path.name for path in (root / stage.SOURCE).iterdir() if path.suffix in (".js", ".html", ".css")}
    assert {f"browser/{name}" for name in sources} <= names
    for name, files in stage.BROWSER_FILES.items():
        folder = f"browser/packages/{name.rpartition('/')[2]}"
        assert {f"{folder}/{Path(file).name}" for file in files} | {f"{folder}/LICENSE"} <= names
    assert set(stage.TRANSFORMERS) <= names
    bom = json.loads((browser_release / "bom.cdx.json").read_bytes())
    locked = npm.read_lock(root / stage.SOURCE / "package-lock.json")
    purls = {component.get("purl") for component in bom["components"]}
    assert {f"pkg:npm/{name.replace('@', '%40')}@{locked[name].version}" for name in stage.BROWSER_FILES} <= purls
    assert "onnxruntime-web 1." in (browser_release / "NOTICE").read_text()


def fake_npm(folder, content):
    """Put an npm into a folder that packs the same archive of any package."""
    folder.mkdir()
    script = f'#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = --pack-destination ] && d=$2; shift; done\n{content}\n'
    (folder / "npm").write_text(script)
    (folder / "npm").chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('printf x > "$d/scope-thing-1.0.tgz"', IntegrityError, "the registry has sha512-"),
        ("echo no such host >&2; exit 1", InputError, "npm cannot fetch @scope/thing@1.0 .no such host."),
        (None, InputError, "npm is not installed"),
    ],
)
def test_other_bytes_than_the_lock_has_are_refused_and_not_kept(tmp_path, monkeypatch, content, error, message):
    path = fake_npm(tmp_path / "bin", content) if content else str(tmp_path)
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin" if content else path)
    package = npm.NpmPackage("@scope/thing", "1.0", "sha512-AAAA", "MIT")
    with pytest.raises(error, match=message):
        npm.fetch(package, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


@needs_chromium
@pytest.mark.parametrize(
    ("variant", "isolated", "least"),
    [("onnx_w8", False, 0.99999), ("onnx_w4", True, 0.99999), ("onnx_int8", True, 0.99), ("static", False, 0.999999)],
)
def test_a_page_gets_the_vectors_of_the_runtime(site, visit, probes, variant, isolated, least):
    texts = [*TEXTS, *probes[::3]]
    with WebServer(site, isolated=isolated) as server:
        page = visit(server)
        facts = page.evaluate(OPEN, {"variant": variant})
        vectors, result = encode(page, texts)
    encoder = open_variant(site / "variants" / variant)
    with pytest.warns(TruncationWarning):
        expected = encoder.encode(texts)
    assert (vectors * expected).sum(axis=1).min() >= least
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert result["truncated"] == [TEXTS.index("a " * 400)]
    assert result["unknown"] == ([TEXTS.index("")] if variant == "static" else [])
    assert facts["variant"] == variant
    assert facts["spaceId"] == encoder.variant.space_id or variant == "static"
    assert facts["cosine"] >= least
    assert facts["device"] == ("javascript" if variant == "static" else "wasm")
    assert (facts["threads"] > 1) == (isolated and variant != "static"), "an isolated page has threads"


@needs_chromium
def test_texts_have_the_same_tokens(site, server, visit, probes, root):
    texts = [
        *probes,
        *(root / "stages/convert/calibration.txt").read_text().splitlines()[::10],
        "[CLS] a [SEP]",
        "ﬁ ½ ÀÉ\u0301 e\u0301 \x00 \u200b",
        "x" * 300,
    ]
    script = """async (texts) => {
      const { TextTokenizer } = await import("/browser/tokens.js");
      const [json, variant] = await Promise.all(["tokenizer", "variant"].map(
        async (name) => (await fetch(`/variants/onnx_w8/${name}.json`)).json()));
      return new TextTokenizer(json, variant, true).encode(texts).map(({ ids }) => ids);
    }"""
    assert visit(server).evaluate(script, texts) == open_variant(site / "variants" / "onnx_w8")._ids(texts)


@needs_chromium
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("variants/static/table.safetensors", "the manifest lists"),
        ("bundle.json", "the manifest lists"),
        ("manifest.json", "own digest differs"),
        ("probes/golden.safetensors", "the manifest lists"),
    ],
)
def test_a_changed_byte_is_refused_by_name(site, server, visit, name, message):
    content = bytearray((site / name).read_bytes())
    content[len(content) // 2] ^= 1
    server.altered[name] = bytes(content)
    page = visit(server)
    error = fail(page, f"""async () => await ({OPEN})({{ variant: "static" }})""")
    assert error["name"] == "IntegrityError"
    assert name in error["message"]
    assert message in error["message"]


@needs_chromium
def test_a_page_that_names_a_release_opens_no_other(site, server, visit):
    page = visit(server)
    own = manifest.read(site).digest
    assert page.evaluate(OPEN, {"variant": "static", "digest": own})["release"] == own
    error = fail(page, f"""async () => await ({OPEN})({{ variant: "static", digest: "{"0" * 64}" }})""")
    assert error["name"] == "IntegrityError"
    assert f"is the release {own}, this page expects {'0' * 64}" in error["message"]


@needs_chromium
def test_a_variant_that_fails_its_self_test_is_replaced_and_that_is_said(site, visit):
    fail_self_test(site, "onnx_int8")
    with WebServer(site) as server:
        page = visit(server)
        facts = page.evaluate(OPEN, {"deviceMemory": 8})
    assert facts["variant"] == "onnx_w8"
    [event] = list_events(page, "fallback")
    assert (event["variant"], "self-test: " in event["reason"]) == ("onnx_int8", True)
    assert facts["failures"] == [f"onnx_int8 on wasm: {event['reason']}"]


@needs_chromium
def test_half_precision_and_fewer_dimensions(site, server, visit):
    page = visit(server)
    page.evaluate(OPEN, {"variant": "onnx_w8"})
    full, result = encode(page)
    assert result["roundingError"] == 0
    halves, result = encode(page, precision="float16")
    assert np.array_equal(halves, full.astype(np.float32).astype(np.float16).astype(np.float64))
    assert 0 < result["roundingError"] < 1e-3
    assert result["roundingError"] == np.abs(halves - full).max()
    short, _ = encode(page, dimensions=128)
    with pytest.warns(TruncationWarning):
        expected = open_variant(site / "variants" / "onnx_w8").encode(TEXTS, dimensions=128)
    np.testing.assert_allclose(short, expected, atol=1e-5)


@needs_chromium
def test_half_precision_rounds_every_number_as_numpy_does(server, visit):
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            rng.standard_normal(500) * 10.0 ** rng.integers(-9, 6, 500),
            np.arange(1, 2000) * 2.0**-25,  # subnormals, and halves of their unit
            [0.0, -0.0, 65504, 65519.99, 65520, 65536, 1e30, -1e30, 2**-14, 2**-24, 2**-25, 1.00048828125],
        ]
    ).astype(np.float32)
    script = """async (values) => {
      const { roundToHalf } = await import("/browser/vectors.js");
      return [...new Uint16Array(roundToHalf(Float32Array.from(values)).vector.buffer)];
    }"""
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).view(np.uint16)
    assert visit(server).evaluate(script, values.tolist()) == expected.tolist()


@needs_chromium
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("encoder.encode('a')", "expects a list of texts"),
        ("encoder.encode([1])", "Text 0 is a number"),
        ("encoder.encode(['a', '\\ud800'])", "Text 1 holds half of a surrogate pair"),
        ("encoder.encode(['a'], { dimensions: 7 })", "no dimensions 7; there are 256, 128"),
        ("encoder.encode(['a'], { precision: 'int4' })", "no precision int4; there are float32, float16"),
        ("encoder.encode(['a'], { prompt: 'query' })", "no prompt query; there are none"),
        ("({})({{ variant: 'onnx_fp64' }})", "no variant onnx_fp64 that runs in a browser; there are onnx_int8"),
    ],
)
def test_a_wrong_call_is_refused_with_what_there_is(server, visit, call, message):
    page = visit(server)
    page.evaluate(OPEN, {"variant": "static"})
    error = fail(page, f"async () => await {call.format(OPEN) if 'onnx_fp64' in call else call}")
    assert error["name"] == "InputError"
    assert message in error["message"]


@needs_chromium
def test_a_file_that_changed_in_the_browsers_storage_is_fetched_again(server, visit):
    first = visit(server, "shared")
    first.evaluate(OPEN, {"variant": "static"})
    first.close()
    page = visit(server, "shared")
    page.evaluate("""async () => {
      const store = await caches.open("embed-foundry");
      for (const request of await store.keys()) await store.put(request, new Response(new Uint8Array(10)));
    }""")
    server.requests.clear()
    page.evaluate(OPEN, {"variant": "static"})
    assert "variants/static/table.safetensors" in server.requests


@needs_chromium
@pytest.mark.parametrize("isolated", [False, True])
def test_the_demonstration_page(site, visit, isolated):
    with WebServer(site, isolated=isolated) as server:
        page = visit(server, path="browser/index.html")
        violations = []
        page.on("console", lambda message: violations.append(message.text) if "Security" in message.text else None)
        page.get_by_text("Ready after").wait_for()
        page.get_by_label("Texts, one a line").fill("How do I list my buckets?\nReturns a list of all buckets.\nA cat.")
        page.get_by_role("button", name="Compare").click()
        page.get_by_role("row").nth(2).wait_for()
        cells = page.get_by_role("row").first.get_by_role("cell").all_inner_texts()
        facts = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
    assert float(cells[0]) == 1
    assert float(cells[1]) > float(cells[2])
    assert facts["Release"] == manifest.read(site).digest
    assert facts["Computed on"] == ("wasm, 2 threads" if isolated else "wasm, 1 thread")
    assert violations == []


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["onnx_w8", "onnx_w4"])
def test_a_gpu_gives_the_vectors_of_the_runtime(site, server, visit, variant):
    page = visit(server)
    page.set_default_timeout(300_000)
    facts = page.evaluate(OPEN, {"variant": variant, "device": "webgpu"})
    vectors, _ = encode(page, TEXTS[:3])
    expected = open_variant(site / "variants" / variant).encode(TEXTS[:3])
    assert facts["device"] == "webgpu"
    assert (vectors * expected).sum(axis=1).min() > 0.99999


@needs_chromium
@pytest.mark.slow
def test_transformers_js_opens_the_folder_as_it_is(site, visit, tmp_path):
    command = ["npm", "install", "--ignore-scripts", "--prefix", tmp_path / "npm", "@huggingface/transformers@4.3.2"]
    subprocess.run(command, check=True, capture_output=True)
    scripts = site / "scripts"
    scripts.mkdir()
    installed = tmp_path / "npm" / "node_modules" / "@huggingface" / "transformers"
    shutil.copy(installed / "dist" / "transformers.min.js", scripts)
    for path in (tmp_path / "npm").rglob("onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.*"):
        shutil.copy(path, scripts)
    texts = TEXTS[:3]
    script = """async (texts) => {
      const { AutoModel, AutoTokenizer, env } = await import("/site/scripts/transformers.min.js");
      env.allowRemoteModels = false;
      env.allowLocalModels = true;
      env.localModelPath = "/";
      env.backends.onnx.wasm.wasmPaths = new URL("/site/scripts/", location).href;
      const tokenizer = await AutoTokenizer.from_pretrained("site");
      const options = { subfolder: "variants/onnx_w8", dtype: "fp32", device: "webgpu" };
      const model = await AutoModel.from_pretrained("site", options);
      const { sentence_embedding } = await model(await tokenizer(texts, { padding: true, truncation: true }));
      return sentence_embedding.tolist();
    }"""
    with WebServer(tmp_path) as server:
        vectors = np.array(visit(server, path="site/blank.html").evaluate(script, texts))
    expected = open_variant(site / "variants" / "onnx_w8").encode(texts)
    assert (vectors * expected).sum(axis=1).min() > 0.9999
