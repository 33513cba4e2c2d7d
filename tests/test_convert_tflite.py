"""LiteRT variants of a small Gemma3: the original's vectors at every length; known failures end in an error."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from embed_foundry import TruncationWarning, Variant, manifest, open_bundle, open_variant
from embed_foundry.errors import InputError
from sentence_transformers import SentenceTransformer

from stages import convert
from stages.commands import compose
from stages.common import config
from stages.common.config.variant import FourBitLayers, TfliteRecipe
from stages.convert import calibration
from stages.convert.graph import fixed
from stages.convert.rounding.gemma3 import round_model
from stages.convert.rounding.layers import Grid
from stages.convert.rounding.rows import round_to_nearest
from stages.convert.tokenizer import load_tokenizer
from support import small_release, tiny_sentencepiece
from support.exporter_traps import TRAPS
from support.litert_files import read_four_bit_matrices

# 282 tokens: over 257, so that the window shows.
LENGTHS = [32, 300]
LONG = "the river " * 55 + "ends here"
ODD = ["", " ", "ünïcode 𝄞 and 日本語", "<bos> literally", "tab\tand\nline", "  two  spaces  ", "१२३ 42", "🙂☕️"]
QUOTED = ["<bos>", "a <eos>b<pad>", "<unk><unk>", "\n <bos> <bos>\t", "<bos", "<<bos>>", "▁<mask>▁"]


@pytest.fixture(scope="module", autouse=True)
def fewer_calibration_texts(tmp_path_factory):
    """Let GPTQ round by half of the calibration texts, in half the time."""
    texts = tmp_path_factory.mktemp("calibration") / calibration.TEXTS.name
    texts.write_text("\n".join(calibration.TEXTS.read_text(encoding="utf-8").splitlines()[::2]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "TEXTS", texts)
        yield


@pytest.fixture(scope="module")
def gemma(base, tmp_path_factory) -> Path:
    return tiny_sentencepiece.write(tmp_path_factory.mktemp("pieces") / "base", base / "tokenizer.json")


@pytest.fixture(scope="module")
def model(params) -> config.Model:
    changes = {"name": "gemma", "dimensions": 48, "matryoshka": [48, 16], "max_tokens": 1024}
    return params.model.model_copy(update=changes | {"prompts": {"query": "task: search result | query: "}})


@pytest.fixture(scope="module")
def recipe(recipes):
    """Return a function that gives a recipe of conf/variant at other lengths, in blocks that divide a small width."""

    def change(name: str, lengths: list[int] = LENGTHS) -> TfliteRecipe:
        dump = re.sub("BLOCKWISE_(64|256)", "BLOCKWISE_32", recipes[name].model_dump_json())
        return TfliteRecipe.model_validate_json(dump).model_copy(update={"lengths": lengths})

    return change


@pytest.fixture(scope="module")
def variant(gemma, model, recipe, recipes, conversion_cache, tmp_path_factory):
    """Return a function that gives the folder of a variant of the small Gemma3."""
    out = tmp_path_factory.mktemp("tflite")

    def folder(name: str) -> Path:
        if not (out / name).exists():
            chosen = recipes["fp32"] if name == "fp32" else recipe(name)
            convert.run(name, chosen, model, gemma, out / name, cache=conversion_cache)
        return out / name

    return folder


@pytest.fixture(scope="module")
def original(gemma) -> SentenceTransformer:
    return SentenceTransformer(str(gemma), device="cpu")


# Random weights have no redundancy to hide rounding in: these bounds are for this model, not for trained ones.
@pytest.mark.parametrize(("name", "least"), [("tflite_fp32", 0.9999), ("tflite_mixed", 0.6)])
def test_gives_the_original_vectors_at_every_length(variant, original, probes, name, least):
    record = Variant.load(variant(name))
    assert (record.kind, record.max_tokens, record.batching) == ("tflite", 300, "single")
    assert set(record.files) == {"graph_32", "graph_300", "sentencepiece"}
    assert set(record.parity["lengths"]) == {"32", "300"}
    assert least <= record.parity["cosine_min"] <= min(record.parity["lengths"].values())
    encoder = open_variant(variant(name), 2)
    texts = [*probes[::10], LONG]
    vectors = np.concatenate([encoder.encode([text]) for text in texts])
    assert (vectors * original.encode(texts, normalize_embeddings=True)).sum(axis=1).min() >= least
    assert sorted(encoder.graphs) == [32, 300]


def test_rounded_weights_are_smaller(variant):
    sizes = [(variant(name) / "model_32.tflite").stat().st_size for name in ("tflite_fp32", "tflite_mixed")]
    assert sizes[0] > 1.5 * sizes[1]


@pytest.fixture(scope="module")
def rounded(gemma, recipe, conversion_cache) -> SentenceTransformer:
    model = SentenceTransformer(str(gemma), device="cpu", model_kwargs={"attn_implementation": "eager"}).eval()
    rows = calibration.load_token_ids(load_tokenizer(gemma, conversion_cache))
    round_model(model, rows, recipe("tflite_mixed").rounding.four_bit, Grid(4, 32))
    return model


LINEARS = ("self_attn.q_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
FOUR_BIT = [f"layers.{layer}.{name}" for layer in range(3) for name in LINEARS]


def test_the_file_has_the_codes_of_the_rounding(variant, rounded):
    """An int8 matrix in their place would have up to 255 values a row, another 4-bit one other values."""
    matrices = read_four_bit_matrices(variant("tflite_mixed") / "model_32.tflite")
    assert len(matrices) == len(FOUR_BIT) + 1  # and the token table
    for name in FOUR_BIT:
        weight = rounded[0].auto_model.get_submodule(name).weight.detach().numpy()
        assert min(np.abs(matrix - weight).max() for matrix in matrices if matrix.shape == weight.shape) < 1e-6, name


def test_rounding_loses_less_than_nearest(gemma, rounded, original, probes):
    plain = SentenceTransformer(str(gemma), device="cpu")
    for name in FOUR_BIT:
        weight = plain[0].auto_model.get_submodule(name).weight
        codes, scales = round_to_nearest(weight.data, 4)
        weight.data = codes * scales
    expected = original.encode(probes, normalize_embeddings=True)
    lost = [
        1 - (model.encode(probes, normalize_embeddings=True) * expected).sum(axis=1).mean()
        for model in (rounded, plain)
    ]
    assert lost[0] < 0.8 * lost[1]


def test_a_rule_for_layers_that_are_not_rounded_is_refused(gemma, model, recipe, conversion_cache, tmp_path):
    mixed, layers = recipe("tflite_mixed", [32]), FourBitLayers(regex=r"self_attn\.q_proj$", granularity="BLOCKWISE_32")
    misfit = mixed.model_copy(update={"rounding": mixed.rounding.model_copy(update={"four_bit": [layers]})})
    with pytest.raises(InputError, match=r"holds for weights that rounding\.four_bit does not name"):
        convert.run("v", misfit, model, gemma, tmp_path / "v", cache=conversion_cache)
    assert not (tmp_path / "v").exists()


def test_ids_are_those_of_the_base_model(variant, original, probes):
    encoder = open_variant(variant("tflite_fp32"), 2)
    for text in [*probes, *ODD, *QUOTED]:
        assert encoder.token_ids([text]) == [original.tokenizer(text)["input_ids"][: encoder.variant.max_tokens]], text
    assert encoder.count_tokens([LONG]) == [len(original.tokenizer(LONG)["input_ids"])]


def test_a_token_that_the_embedding_has_no_row_for_is_refused_with_its_text(variant):
    """The tokenizer's <mask> comes after all pieces, as EmbeddingGemma's <image_soft_token> does."""
    encoder = open_variant(variant("tflite_fp32"), 2)
    with pytest.raises(InputError, match=r"text 1 holds the token '<mask>' \(id 900\), and the model has rows for 900"):
        encoder.encode(["cat", "a <mask> in a longer text", "dog"])
    assert encoder.encode(["cat", "dog"]).shape == (2, 48)


def test_pieces_of_another_model_do_not_ship(gemma, model, recipe, tmp_path):
    """tokenizer.json is what sentence-transformers runs."""
    other = tmp_path / "other"
    shutil.copytree(gemma, other)
    (other / "tokenizer.model").write_bytes(b"a vocabulary of tiktoken, as Llama 3 has under this name")
    manifest.write(other, {"stage": "download"})
    with pytest.warns(UserWarning, match=r"sentencepiece cannot load it .* tokenizer.json ships instead"):
        record = convert.run("v", recipe("tflite_fp32", [32]), model, other, tmp_path / "v", cache=tmp_path / "cache")
    assert set(record.files) == {"graph_32", "tokenizer"}
    assert record.parity["hard_l2_max"] < 1e-3


def test_truncation_warns_and_a_length_can_be_chosen(variant):
    encoder = open_variant(variant("tflite_fp32"), 2)
    with pytest.warns(TruncationWarning, match="exceed 300 tokens"):
        encoder.encode([LONG * 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = encoder.encode(["cat", LONG], prompt="query", dimensions=16)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)
    short = open_variant(variant("tflite_fp32"), 2)
    short.use_graph(32)
    with pytest.warns(TruncationWarning, match="exceed 32 tokens"):
        short.encode([LONG])
    assert sorted(short.graphs) == [32]
    with pytest.raises(InputError, match=r"has graphs of \[32\] tokens"):
        short.use_graph(64)


def test_converting_twice_gives_the_same_bytes_which_name_no_place(variant, gemma, model, recipe, tmp_path):
    convert.run("again", recipe("tflite_mixed", [32]), model, gemma, tmp_path / "again", cache=tmp_path / "cache")
    again = (tmp_path / "again" / "model_32.tflite").read_bytes()
    assert again == (variant("tflite_mixed") / "model_32.tflite").read_bytes()
    for path in variant("tflite_mixed").glob("*.tflite"):
        data = path.read_bytes()
        assert not any(place in data for place in (b"/tmp", b"/home", b"/work", b".py"))


# Parity finds all of them by the same cosine; this one shows at one length alone.
QUICK_TRAP = "a window that shrank"


@pytest.mark.parametrize(
    "trap", [trap if trap == QUICK_TRAP else pytest.param(trap, marks=pytest.mark.slow) for trap in TRAPS]
)
def test_an_exporter_that_fails_silently_is_noticed(monkeypatch, gemma, model, recipe, tmp_path, trap):
    name, planted, lengths, message = TRAPS[trap]
    monkeypatch.setattr(fixed, name, planted)
    with pytest.warns(UserWarning, match=message):
        record = convert.run(
            "v", recipe("tflite_fp32", lengths), model, gemma, tmp_path / "v", cache=tmp_path / "cache"
        )
    assert set(record.parity) == {"error"}


def test_a_token_id_past_the_embedding_is_noticed(base, model, recipe, tmp_path):
    """EmbeddingGemma's tokenizer.json has 262,145 entries, its embedding 262,144 rows."""
    short = tiny_sentencepiece.write(tmp_path / "base", base / "tokenizer.json", rows=tiny_sentencepiece.PIECES - 1)
    with pytest.warns(UserWarning, match=f"has {tiny_sentencepiece.PIECES} entries, the model's embedding"):
        record = convert.run("v", recipe("tflite_fp32", [32]), model, short, tmp_path / "v", cache=tmp_path / "cache")
    assert set(record.parity) == {"error"}


ALONE = """
import sys
for name in ("onnxruntime", "safetensors", "tokenizers", "torch", "transformers"):
    sys.modules[name] = None
import numpy
from pathlib import Path
from embed_foundry import open_variant
numpy.save(sys.argv[2], open_variant(Path(sys.argv[1]), 2).encode(["cat", "日本語"]))
"""


def test_needs_litert_sentencepiece_and_numpy_only(variant, tmp_path):
    subprocess.run([sys.executable, "-c", ALONE, variant("tflite_fp32"), tmp_path / "v.npy"], check=True)
    expected = open_variant(variant("tflite_fp32"), 2).encode(["cat", "日本語"])
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)


def test_the_android_bundle_says_what_an_app_must_know(variant, gemma, model, root, tmp_path):
    composed = yaml.safe_load(compose.compose(["target=android"], root / "conf"))
    target = config.parse(composed, "conf/").target.model_copy(update={"limits": {}})
    asked = model.model_copy(update={"app_prompts": {"QUESTION_ANSWERING": "answer: "}})
    build = small_release.start(tmp_path, gemma, variant, asked, target, root, ("fp32", "tflite_mixed"))
    bundle = build.release()
    description = json.loads((bundle / "android.json").read_text())
    assert (description["schema"], description["order"]) == (1, ["tflite_mixed"])
    entry = description["variants"]["tflite_mixed"]
    for part in (*entry["graphs"], entry["tokenizer"]):
        assert manifest.sha256(bundle / part["file"]) == part["sha256"]
    for graph, tokens in zip(entry["graphs"], LENGTHS, strict=True):
        assert graph["tokens"] == tokens
        named = [{"name": name, "type": "int32", "shape": [1, tokens]} for name in ("input_ids", "attention_mask")]
        assert graph["inputs"] == named
        assert graph["outputs"] == [{"name": "sentence_embedding", "type": "float32", "shape": [1, 48]}]
    assert (entry["tokenizer"]["before"], entry["tokenizer"]["after"], entry["tokenizer"]["pad"]) == ([2], [1], 0)
    assert entry["tokenizer"]["ids_below"] == tiny_sentencepiece.PIECES
    assert {"content": "<bos>", "id": 2} in entry["tokenizer"]["added_tokens"]
    assert entry["tokenizer"]["truncation_side"] == "right"
    assert entry["matryoshka"]["dimensions"] == [48, 16]
    space = entry["space_id"]
    assert entry["matryoshka"]["model_signatures"] == {"48": f"{space}-48", "16": f"{space}-16"}
    assert entry["tasks"]["QUESTION_ANSWERING"] == "answer: "
    assert entry["tasks"]["RETRIEVAL_QUERY"] == model.prompts["query"]
    assert (entry["prompts"], entry["max_tokens"]) == (model.prompts, 300)
    encoder = open_bundle(bundle)
    assert encoder.variant.name == "tflite_mixed"
    # Input order and types as an app takes them from android.json, without our encoder.
    np.testing.assert_allclose(encode_by_hand(bundle, entry, "cat"), encoder.encode(["cat"])[0], atol=1e-6)


def encode_by_hand(bundle: Path, entry: dict, text: str) -> np.ndarray:
    """Encode as docs/android.md says."""
    from ai_edge_litert.interpreter import Interpreter
    from sentencepiece import SentencePieceProcessor

    graph, tokenizer = entry["graphs"][0], entry["tokenizer"]
    pieces = SentencePieceProcessor(model_file=str(bundle / tokenizer["file"])).encode(text)
    ids = [*tokenizer["before"], *pieces, *tokenizer["after"]]
    filled = {"input_ids": ids + [tokenizer["pad"]] * 32, "attention_mask": [1] * len(ids) + [0] * 32}
    interpreter = Interpreter(model_path=str(bundle / graph["file"]), num_threads=2)
    interpreter.allocate_tensors()
    for index, item in enumerate(graph["inputs"]):
        value = np.array([filled[item["name"]][: graph["tokens"]]], item["type"])
        interpreter.set_tensor(interpreter.get_input_details()[index]["index"], value)
    interpreter.invoke()
    vector = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].astype(np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
