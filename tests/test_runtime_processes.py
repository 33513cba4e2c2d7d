"""Encoders in a new process: their first calls from several threads, and without the libraries of the build."""

import subprocess
import sys

import pytest

KINDS = ["onnx_fp32", "onnx_int8", "openvino_int8", "static", "fp32"]


FIRST_CALLS = """
import os, sys, threading, time
from pathlib import Path
from embed_foundry import open_variant

encoder = open_variant(Path(sys.argv[1]), 1)
sys.setswitchinterval(1e-6)
started = threading.Event()

def use():
    while not started.is_set():
        pass
    encoder.encode(["a cat"])

threads = [threading.Thread(target=use, daemon=True) for _ in range(8)]
for thread in threads:
    thread.start()
started.set()
deadline = time.monotonic() + 20
for thread in threads:
    thread.join(max(0, deadline - time.monotonic()))
os._exit(any(thread.is_alive() for thread in threads))
"""


@pytest.mark.parametrize("name", [name for name in KINDS if name != "fp32"])
def test_the_first_calls_may_come_from_several_threads_at_once(converted, name):
    """OpenVINO's first access to an array deadlocks if two threads make it at once: a new process each time."""
    for _ in range(3 if name.startswith("openvino") else 1):
        assert subprocess.run([sys.executable, "-c", FIRST_CALLS, converted(name)], check=False).returncode == 0


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
    print(name, *vectors.shape, float(bundle.self_test(encoder).cosine) > 0.999)
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
