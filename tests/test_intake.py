"""What may enter as a base model: no code, no pickle, no broken file, each refused by name and never run."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from embed_foundry.errors import IntegrityError
from safetensors.numpy import save

from support import tiny_model
from support.tiny_model import add_module, dump, edit_json, run_download, write

WEIGHTS, HEAD = "model.safetensors", "2_Dense/model.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A user's folder with the tiny model."""
    return tiny_model.write(tmp_path / "mine")


class Payload:
    """Pickles to a call that makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


UNEXPECTED = {
    "python file": ("modeling.py", b"raise SystemExit"),
    "python file below": ("deep/er/Helper.PY", b""),
    "pickled weights": ("pytorch_model.bin", b""),
    "keras weights": ("tf_model.h5", b""),
    "auto_map": ("config.json", edit_json("config.json", auto_map={"AutoModel": "modeling.Mine"})),
    "auto_map, nested": ("config.json", edit_json("config.json", text_config={"auto_map": {"AutoModel": "a.B"}})),
    "auto_map, tokenizer": ("tokenizer_config.json", dump({"auto_map": {"AutoTokenizer": ["a.B", None]}})),
    "auto_map, not taken": ("0_Other/config.json", dump({"auto_map": {"AutoModel": "a.B"}})),
    "trust": ("sentence_bert_config.json", dump({"model_args": {"trust_remote_code": True}})),
    "module type": ("modules.json", add_module(type="custom_st.Mine")),
    "module type, disguised": ("modules.json", add_module(type="sentence_transformers_evil.models.Pooling")),
    "activation": ("2_Dense/config.json", edit_json("2_Dense/config.json", activation_function="os.system")),
}


@pytest.mark.parametrize("case", UNEXPECTED)
def test_unexpected_code_in_a_folder_is_refused_by_name(folder, tmp_path, case):
    name, data = UNEXPECTED[case]
    write(folder, {name: data})
    with pytest.raises(IntegrityError, match=f"{name}: unexpected code.*safetensors.*new folder"):
        run_download(folder, tmp_path / "base")
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "vocab.txt", "tokenizer.json"])
def test_pickle_under_another_name_never_runs(folder, tmp_path, name, protocol):
    write(folder, {name: pickle.dumps(Payload(tmp_path / "canary"), protocol=protocol)})
    files = dict.fromkeys([*tiny_model.files(), name])
    if (name, protocol) in {("vocab.txt", 0), ("vocab.txt", 1)}:  # plain text, and text is all it is ever read as
        run_download(folder, tmp_path / "base", files=files)
    else:
        with pytest.raises(IntegrityError, match=name):
            run_download(folder, tmp_path / "base", files=files)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["linked.json", WEIGHTS])
def test_link_out_of_the_folder_is_refused(folder, tmp_path, name):
    write(tmp_path, {"secret": tiny_model.files()[WEIGHTS]})
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(IntegrityError, match=f"{name}: is a link that leaves"):
        run_download(folder, tmp_path / "base")


def tensors(header: bytes | dict, data: bytes, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else dump(header)
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensor(first: int, last: int) -> dict:
    return {"dtype": "U8", "shape": [last - first], "data_offsets": [first, last]}


BROKEN_WEIGHTS = {
    "empty": b"",
    "truncated": tensors({"a": tensor(0, 8)}, b"1234567"),
    "trailing bytes": tensors({"a": tensor(0, 8)}, b"123456789"),
    "overlap": tensors({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)),
    "hole": tensors({"a": tensor(4, 8)}, bytes(8)),
    "duplicate key": tensors(b'{"a":%s,"a":%s}' % ((dump(tensor(0, 8)),) * 2), bytes(8)),
    "huge header": tensors({"a": tensor(0, 8)}, bytes(8), length=1 << 50),
}


@pytest.mark.parametrize("case", BROKEN_WEIGHTS)
def test_broken_safetensors_is_refused_by_name(folder, tmp_path, case):
    write(folder, {WEIGHTS: BROKEN_WEIGHTS[case]})
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: .*(not a whole safetensors file|duplicate key 'a')"):
        run_download(folder, tmp_path / "base")


@pytest.mark.parametrize("length", [0x280, 0x480])
def test_header_length_that_looks_like_a_pickle_is_no_pickle(folder, tmp_path, length):
    weights = {"linear.weight": np.ones((6, 8), np.float32)}
    padding = length - int.from_bytes(save(weights, {"note": "x" * 100})[:8], "little")
    write(folder, {HEAD: save(weights, {"note": "x" * (100 + padding)})})
    assert (folder / HEAD).read_bytes()[:2] == length.to_bytes(2, "little")
    run_download(folder, tmp_path / "base")
