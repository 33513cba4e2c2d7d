"""What each library does on a disk that refuses: `library_writers.py FOLDER LIBRARY…` writes 4 MB into FOLDER/out.

Each library writes in a process of its own, through the door that a stage has; a line says how that ended.
"""

import json
import os
import shutil
import sqlite3
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from embed_foundry.output.folder import replace_file

from stages.common.contract.output import stage_output
from stages.common.contract.process import run_stage

VALUES = np.zeros((1000, 1000), dtype=np.float32)


def write_torch(work: Path) -> None:
    """Neither of torch's formats of files names what the system said."""
    import torch

    torch.save({"weights": torch.from_numpy(VALUES)}, work / "weights.pt")


def write_safetensors(work: Path) -> None:
    """As every conversion and fine-tuning does."""
    from safetensors.numpy import save_file

    save_file({"weights": VALUES}, work / "weights.safetensors")


def write_parquet(work: Path) -> None:
    """As `data` does for stock tasks."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"value": np.random.default_rng(0).random(500_000)}), work / "rows.parquet")


def write_datasets(work: Path) -> None:
    """As a loader of the hub's datasets does."""
    from datasets import Dataset

    Dataset.from_dict({"value": np.random.default_rng(0).random(500_000)}).save_to_disk(str(work / "set"))


def write_onnx(work: Path) -> None:
    """As every ONNX conversion does."""
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph([], "weights", [], [], [numpy_helper.from_array(VALUES, "weights")])
    onnx.save(helper.make_model(graph), work / "model.onnx")


def write_openvino(work: Path) -> None:
    """As every OpenVINO conversion does."""
    import openvino

    constant = openvino.opset13.constant(VALUES)
    openvino.save_model(openvino.Model([constant], [], "weights"), work / "model.xml", compress_to_fp16=False)


def write_joblib(work: Path) -> None:
    """As scikit-learn's users do."""
    import joblib

    joblib.dump(VALUES, work / "values.joblib")


def write_sqlite(work: Path) -> None:
    """Its errors are no OSErrors."""
    with sqlite3.connect(work / "rows.db") as connection:
        connection.execute("create table rows (value blob)")
        connection.execute("insert into rows values (?)", (VALUES.tobytes(),))


def write_zip(work: Path) -> None:
    """As a wheel's builder does."""
    with zipfile.ZipFile(work / "files.zip", "w") as archive:
        archive.writestr("values", VALUES.tobytes())


def write_tree(work: Path) -> None:
    """shutil.Error gathers what several files met, and has no number of its own."""
    source = Path(os.environ["SOURCE"])
    shutil.copytree(source, work / "copy")


def write_tokenizer(work: Path) -> None:
    """A Rust library, whose errors are bare Exceptions."""
    from tokenizers import Tokenizer, models

    vocabulary = {f"word {number:020d}": number for number in range(100_000)}
    Tokenizer(models.WordLevel(vocabulary, unk_token="word 00000000000000000000")).save(str(work / "tokenizer.json"))


def write_numpy(work: Path) -> None:
    """As quality's cells do."""
    np.savez(work / "values.npz", values=VALUES)


def write_replaced(work: Path) -> None:
    """As every file is written that is replaced in place."""
    replace_file(work / "params.yaml", VALUES.tobytes())


WRITERS: dict[str, Callable[[Path], None]] = {
    name.removeprefix("write_"): value for name, value in globals().items() if name.startswith("write_")
}


def main(folder: Path, names: list[str]) -> None:
    """Run each writer in a child and print its exit code and what it said."""
    source = Path(os.environ["SOURCE"])
    source.mkdir(parents=True, exist_ok=True)
    (source / "values").write_bytes(VALUES.tobytes())
    for name in names or WRITERS:
        for module in {"torch": ["torch"], "datasets": ["datasets"], "parquet": ["pyarrow.parquet"]}.get(name, []):
            __import__(module)
        messages = source / f"{name}.stderr"
        if not (child := os.fork()):
            os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT), 2)
            run_stage(lambda name=name: _write(folder, name))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        left = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        print(json.dumps([name, code, messages.read_text(encoding="utf-8"), left]), flush=True)


def _write(folder: Path, name: str) -> None:
    with stage_output(folder / "out", stage=name, parameters={}, inputs={}) as work:
        WRITERS[name](work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
