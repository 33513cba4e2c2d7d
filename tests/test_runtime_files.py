"""A variant's files say what its encoder does; a file that breaks the contract is named and gives no wrong vector."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import InputError, IntegrityError, Variant, manifest, open_variant


def altered(folder: Path, target: Path, **changes) -> Path:
    """Return a copy of a variant with keys of variant.json changed."""
    shutil.copytree(folder, target)
    record = json.loads((target / "variant.json").read_text()) | changes
    (target / "variant.json").write_text(json.dumps(record))
    return target


PROMPTS = {"query": "find: ", "none": ""}


def test_prompts_are_put_before_the_text(converted, tmp_path):
    prompted = open_variant(altered(converted("onnx_fp32"), tmp_path / "v", prompts=PROMPTS), 2)
    plain = open_variant(converted("onnx_fp32"), 2)
    np.testing.assert_array_equal(prompted.encode(["a cat"], prompt="query"), plain.encode(["find: a cat"]))
    np.testing.assert_array_equal(prompted.encode(["a cat"], prompt="none"), plain.encode(["a cat"]))
    np.testing.assert_array_equal(prompted.encode(["a cat"]), plain.encode(["a cat"]))
    assert prompted.count_tokens(["a cat"], prompt="query") == [6]  # two of them special
    with pytest.raises(InputError, match=r"unknown to onnx_fp32; it has \['none', 'query'\]"):
        prompted.encode(["a cat"], prompt="document")


def test_a_static_table_checks_prompts_and_takes_none(converted, tmp_path):
    prompted = open_variant(altered(converted("static"), tmp_path / "v", prompts=PROMPTS), 2)
    np.testing.assert_array_equal(prompted.encode(["a cat"], prompt="query"), prompted.encode(["a cat"]))
    assert prompted.count_tokens(["a cat"], prompt="query") == [2]
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
    with pytest.raises(IntegrityError, match=r"1 of 2 vectors .*, first that of text 1, 'cat'\. Do not ship"):
        poisoned.encode(["dog", "cat"])


def graph(folder: Path, nodes: list, outputs: list, initial: list = ()) -> None:
    """Write a small ONNX graph over input_ids and attention_mask."""
    import onnx
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in ("input_ids", "mask")]
    inputs[1].name = "attention_mask"
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    small = helper.make_graph(nodes, "small", inputs, outputs, initializer=list(initial))
    onnx.save(
        helper.make_model(small, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )


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
        InputError,
        match=r"kind 'coreml' is unknown; "
        r"this runtime has \['litertlm', 'onnx', 'openvino', 'static', 'tflite', 'torch'\]",
    ):
        open_variant(altered(converted("static"), tmp_path / "v", kind="coreml"))


def test_record_reads_back_as_it_was_written(converted, tmp_path):
    variant = Variant.load(converted("onnx_int8"))
    (tmp_path / "variant.json").write_bytes(manifest.canonical(variant.to_json()))
    assert Variant.load(tmp_path) == variant
