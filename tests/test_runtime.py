"""The encoders' contract: what goes in, what comes out, in which order, what is refused in words."""

import json
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import (
    Encoder,
    InputError,
    IntegrityError,
    TruncationWarning,
    Variant,
    manifest,
    open_variant,
)
from embed_foundry.encoder import cut

KINDS = ["onnx_fp32", "onnx_int8", "openvino_int8", "static", "fp32"]
# Inputs that a user sends sooner or later; each has a finite vector of unit norm.
ODD = [
    "",
    " ",
    "\t\n",
    "\x00",
    "a\x00b",
    "\u200b",
    "\u200f\u202e\u200d",
    "\u202e dlrow",
    "\ufeff",
    "e\u0301" * 50,
    "💥💥",
]


@pytest.fixture(scope="module")
def encoder(converted):
    """Return a function that gives the opened encoder of a default variant."""
    opened: dict[str, Encoder] = {}

    def get(name: str) -> Encoder:
        if name not in opened:
            opened[name] = open_variant(converted(name), 2)
        return opened[name]

    return get


@pytest.mark.parametrize("name", KINDS)
def test_gives_unit_float32_rows_in_the_order_of_the_texts(encoder, probes, name):
    one = encoder(name)
    vectors = one.encode(probes)
    assert vectors.dtype == np.float32
    assert vectors.shape == (50, one.variant.dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    order = np.random.default_rng(0).permutation(50)
    shuffled = one.encode([probes[at] for at in order], batch_size=7)
    assert ((shuffled * vectors[order]).sum(axis=1) > 0.99999).all()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("batch_size", [1, 2, 49, 1000])
def test_batching_does_not_change_a_vector(encoder, probes, name, batch_size):
    expected = encoder(name).encode(probes)
    np.testing.assert_allclose(encoder(name).encode(probes, batch_size=batch_size), expected, atol=2e-5)


@pytest.mark.parametrize("name", KINDS)
def test_no_texts_give_no_rows(encoder, name):
    width = encoder(name).variant.dimensions
    assert encoder(name).encode([]).shape == (0, width)
    assert encoder(name).encode([], dimensions=128).shape == (0, 128)
    assert encoder(name).count_tokens([]) == []


@pytest.mark.parametrize("name", KINDS)
def test_odd_texts_have_defined_vectors(encoder, name):
    vectors = encoder(name).encode(ODD)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    again = np.concatenate([encoder(name).encode([text]) for text in ODD])
    assert ((vectors * again).sum(axis=1) > 0.9999).all()


REFUSED = {
    "lone surrogate": (["fine", "\ud800"], {}, "text 1 holds a lone surrogate"),
    "not a string": (["fine", "fine", 3], {}, "text 2 is a int; expected a string"),
    "bytes": ([b"bytes"], {}, "text 0 is a bytes; expected a string"),
    "nothing": ([None], {}, "text 0 is a NoneType"),
    "one string": ("hello", {}, "expected a list of strings"),
    "unknown prompt": (["fine"], {"prompt": "qeury"}, "prompt 'qeury' is unknown"),
    "no dimensions": (["fine"], {"dimensions": 0}, "dimensions 0 is out of range"),
    "negative dimensions": (["fine"], {"dimensions": -1}, "dimensions -1 is out of range"),
    "too many dimensions": (["fine"], {"dimensions": 385}, "dimensions 385 is out of range"),
    "an empty batch": (["fine"], {"batch_size": 0}, "batch_size 0 is out of range"),
    "a negative batch": (["fine"], {"batch_size": -1}, "batch_size -1 is out of range"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("name", ["onnx_int8", "static"])
def test_bad_calls_are_refused_in_words(encoder, name, case):
    texts, arguments, words = REFUSED[case]
    with pytest.raises(InputError) as caught:
        encoder(name).encode(texts, **arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_matryoshka_cuts_and_normalises_again(encoder, probes, name):
    full = encoder(name).encode(probes[:5])
    for length in (1, 64, 128, full.shape[1]):
        short = encoder(name).encode(probes[:5], dimensions=length)
        assert short.shape == (5, length)
        expected = full[:, :length] / np.linalg.norm(full[:, :length], axis=1, keepdims=True)
        np.testing.assert_allclose(short, expected, atol=1e-6)


@pytest.mark.parametrize(
    "row", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0, 1.0]], ids=["zero", "nan", "inf", "zero after the cut"]
)
def test_a_vector_without_a_direction_is_an_error_never_nan(row):
    good = [1.0] * len(row)
    with pytest.raises(IntegrityError, match=r"1 of 3 vectors .*first: row 1"):
        cut(np.array([good, row, good], dtype=np.float32), 2)


def test_tiny_and_huge_vectors_keep_their_direction():
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(cut(np.array([[3, 4]], dtype=np.float32) * np.float32(scale), 2), [[0.6, 0.8]])


@pytest.mark.parametrize("name", KINDS)
def test_truncation_is_reported_once_and_equals_the_cut_text(encoder, name):
    one, word = encoder(name), "cat "
    special = 0 if name == "static" else 2
    fits = word * (256 - special)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at_limit = one.encode([fits])
    with pytest.warns(
        TruncationWarning, match=r"2 of 4 texts exceed 256 tokens and were cut \(first: text 1\)"
    ) as seen:
        vectors = one.encode(["short", fits + word, fits, fits * 3], batch_size=2)
    assert len(seen) == 1
    assert ((vectors[1:] @ at_limit[0]) > 0.9999).all()
    assert one.count_tokens(["cat", fits, fits + word, fits * 3]) == [
        1 + special,
        256,
        257,
        (256 - special) * 3 + special,
    ]


@pytest.mark.parametrize("name", ["onnx_fp32", "static"])
def test_threads_may_share_an_encoder(encoder, name):
    """A service's threads: some texts are cut, others counted, at the same time."""
    one, long = encoder(name), "cat " * 600
    with pytest.warns(TruncationWarning):
        expected = one.encode([long])
    count = one.count_tokens([long])
    wrong: list[object] = []

    def use() -> None:
        try:
            for _ in range(12):
                if not np.allclose(one.encode([long]), expected, atol=1e-5):
                    wrong.append("another vector")
                if one.count_tokens([long]) != count:
                    wrong.append("another count")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize(("name", "least"), [("onnx_fp32", 0.9999), ("fp32", 0.99999), ("onnx_int8", 0.95)])
def test_equals_sentence_transformers(encoder, probes, reference, name, least):
    alone = np.concatenate([encoder(name).encode([text]) for text in probes])
    assert (alone * reference).sum(axis=1).min() >= least


def test_static_equals_model2vec(encoder, probes, converted):
    from model2vec import StaticModel
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = converted("static")
    table = load_file(folder / "table.safetensors")["embeddings"]
    theirs = StaticModel(table, Tokenizer.from_file(str(folder / "tokenizer.json")), normalize=True)
    texts = [*probes, *ODD]
    expected = theirs.encode(texts)
    known = np.abs(expected).sum(axis=1) > 0  # they give zeros where no token is known; we give a vector
    assert known[: len(probes)].all()
    np.testing.assert_allclose(encoder("static").encode(texts)[known], expected[known], atol=1e-6)


def altered(folder: Path, target: Path, **facts) -> Path:
    """Return a copy of a variant with keys of variant.json changed."""
    shutil.copytree(folder, target)
    record = json.loads((target / "variant.json").read_text()) | facts
    (target / "variant.json").write_text(json.dumps(record))
    return target


def test_prompts_are_put_before_the_text(converted, encoder, tmp_path):
    prompted = open_variant(altered(converted("static"), tmp_path / "v", prompts={"query": "find: ", "none": ""}), 2)
    plain = encoder("static")
    np.testing.assert_array_equal(prompted.encode(["a cat"], prompt="query"), plain.encode(["find: a cat"]))
    np.testing.assert_array_equal(prompted.encode(["a cat"], prompt="none"), plain.encode(["a cat"]))
    np.testing.assert_array_equal(prompted.encode(["a cat"]), plain.encode(["a cat"]))
    assert prompted.count_tokens(["a cat"], prompt="query") == [4]
    with pytest.raises(InputError, match=r"unknown to static; it has \['none', 'query'\]"):
        prompted.encode(["a cat"], prompt="document")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_poisoned_table_is_an_error_never_nan(converted, tmp_path, value):
    from safetensors.numpy import load_file, save_file

    folder = altered(converted("static"), tmp_path / "v")
    table = load_file(folder / "table.safetensors")["embeddings"].astype(np.float32)
    table[open_variant(folder).tokenizer.token_to_id("cat")] = value
    save_file({"embeddings": table}, folder / "table.safetensors")
    poisoned = open_variant(folder, 2)
    assert poisoned.encode(["dog"]).shape == (1, 256)
    with pytest.raises(IntegrityError, match=r"1 of 2 vectors are not finite or have no length \(first: row 1\)"):
        poisoned.encode(["dog", "cat"])


def graph(folder: Path, nodes: list, outputs: list, initial: list = ()) -> None:
    """Write a small ONNX graph over input_ids and attention_mask."""
    import onnx
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in ("input_ids", "mask")]
    inputs[1].name = "attention_mask"
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    made = helper.make_graph(nodes, "small", inputs, outputs, initializer=list(initial))
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")


def constant(value: np.ndarray, name: str):
    from onnx import helper, numpy_helper

    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value.astype(np.float32), name))


WRONG = {
    "one row for all": (
        np.ones((1, 384)),
        "sentence_embedding",
        r"expected vectors of shape \(3, 384\), got \(1, 384\)",
    ),
    "too short": (np.ones((3, 256)), "sentence_embedding", r"expected vectors of shape \(3, 384\), got \(3, 256\)"),
    "one axis more": (np.ones((3, 1, 384)), "sentence_embedding", r"got \(3, 1, 384\)"),
    "NaN": (np.full((3, 384), np.nan), "sentence_embedding", "3 of 3 vectors are not finite"),
    "another name": (
        np.ones((3, 384)),
        "output_0",
        r"expected an output named sentence_embedding, found \['output_0'\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_graph_that_breaks_the_contract_is_refused(converted, tmp_path, case):
    value, output, words = WRONG[case]
    folder = altered(converted("onnx_fp32"), tmp_path / "v")  # the kind that takes three texts in one call
    graph(folder, [constant(value, output)], [output])
    with pytest.raises(IntegrityError, match=words):
        open_variant(folder, 2).encode(["a", "b", "c"])


def test_a_good_output_is_found_by_its_name_wherever_it_stands(converted, tmp_path):
    folder = altered(converted("onnx_int8"), tmp_path / "v")
    good = np.eye(3, 384)
    nodes = [constant(np.zeros((3, 5, 384)), "last_hidden_state"), constant(good, "sentence_embedding")]
    for outputs in (["last_hidden_state", "sentence_embedding"], ["sentence_embedding", "last_hidden_state"]):
        graph(folder, nodes, outputs)
        np.testing.assert_array_equal(open_variant(folder, 2).encode(["a", "b", "c"]), good)


UNREADABLE = {
    "no graph": ("onnx_int8", "model.onnx", None, "ONNX Runtime cannot load it"),
    "a cut graph": ("onnx_int8", "model.onnx", b"\x08\x08", "ONNX Runtime cannot load it"),
    "a cut table": ("static", "table.safetensors", b"{", "cannot"),
    "no table": ("static", "table.safetensors", None, "cannot"),
    "a cut tokenizer": ("static", "tokenizer.json", b"{", "cannot"),
    "no tokenizer": ("onnx_int8", "tokenizer.json", None, "cannot"),
    "no record": ("static", "variant.json", None, "not readable as JSON"),
    "a cut record": ("static", "variant.json", b"{", "not readable as JSON"),
    "a record that is a list": ("static", "variant.json", b"[]", "variant.json"),
    "an empty record": ("static", "variant.json", b"{}", "has schema None, this runtime reads 1"),
    "half a record": ("static", "variant.json", b'{"schema": 1, "name": "x"}', "incomplete"),
    "a later record": ("static", "variant.json", b'{"schema": 2}', "has schema 2, this runtime reads 1"),
    "an unknown key": ("static", "variant.json", b'{"schema": 1, "colour": "x"}', r"unknown keys \['colour'\]"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_broken_file_is_named(converted, tmp_path, case):
    name, file, content, words = UNREADABLE[case]
    folder = altered(converted(name), tmp_path / "v")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(IntegrityError, match=words) as caught:
        open_variant(folder, 2)
    assert str(folder / file) in str(caught.value)


def test_an_unknown_kind_lists_the_known_ones(converted, tmp_path):
    with pytest.raises(
        InputError, match=r"kind 'tflite' is unknown; this runtime has \['onnx', 'openvino', 'static', 'torch'\]"
    ):
        open_variant(altered(converted("static"), tmp_path / "v", kind="tflite"))


def test_record_reads_back_as_it_was_written(converted, tmp_path):
    variant = Variant.load(converted("onnx_int8"))
    (tmp_path / "variant.json").write_bytes(manifest.canonical(variant.to_json()))
    assert Variant.load(tmp_path) == variant


WITHOUT_TORCH = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

BLOCKED = set("torch transformers sentence_transformers mteb onnx optimum model2vec sklearn scipy stages".split())
sys.meta_path.insert(0, Block())
from pathlib import Path
from embed_foundry import Bundle, InputError, open_bundle, open_variant

bundle = Bundle.load(Path(sys.argv[1]))
for name in bundle.order:
    encoder = open_bundle(sys.argv[1], name, threads=2)
    vectors = encoder.encode(["hello", "", "world " * 400], dimensions=128)
    print(name, *vectors.shape, float(bundle.self_test(encoder)) > 0.999)
assert not BLOCKED & set(sys.modules), BLOCKED & set(sys.modules)
try:
    open_variant(Path(sys.argv[2]))
except InputError as error:
    print(type(error).__name__, error)
"""


def test_no_model_library_is_imported_on_the_way_from_a_bundle_to_vectors(released, converted):
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_TORCH, released.folder, converted("fp32")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert lines == [f"{name} 3 128 True" for name in ("onnx_int8", "onnx_fp32", "static")]
    assert last.startswith("InputError fp32 needs a library that is missing")
    assert last.endswith("Next: pip install sentence-transformers torch")
