"""What compose says of a configuration before anything is built."""

import shutil

import pytest

from stages.commands import compose

BIG = ["target=railway_cpu", "+model.parameters=560000000"]
# Overrides -> the candidates that are too large for their limit, and what to set.
TOO_LARGE = {
    ("+model.parameters=22713216",): {},
    ("target=railway_cpu", "+model.parameters=307581696"): {},
    tuple(BIG): {
        "openvino_int8": "target.limits.openvino_int8.size_mb_max=700",
        "onnx_int8": "target.limits.onnx_int8.size_mb_max=700",
    },
    (*BIG, "target.limits.onnx_int8.size_mb_max=700"): {"openvino_int8": "size_mb_max=700"},
    (*BIG, "~target.limits.onnx_int8.size_mb_max", "~target.limits.openvino_int8"): {},
    (*BIG, "variant=[fp32,static]"): {},
    ("target=android", "+model.parameters=560000000"): {"tflite_mixed": "=350", "tflite_int8": "=700"},
}


@pytest.mark.parametrize("overrides", TOO_LARGE)
def test_a_model_that_is_too_large_for_a_limit_is_told_before_the_build(root, tmp_path, overrides):
    conf = shutil.copytree(root / "conf", tmp_path / "conf")
    compose.write(overrides, conf=conf, params=tmp_path / "params.yaml")
    notes = {note.partition(" ")[0]: note for note in compose.list_notes(tmp_path / "params.yaml")}
    assert notes.keys() == TOO_LARGE[overrides].keys()
    for name, setting in TOO_LARGE[overrides].items():
        assert f"{setting} if the host has the room" in notes[name]
