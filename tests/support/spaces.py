"""Releases whose vector spaces are related in a known way, and texts to compare them on."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from embed_foundry import manifest
from safetensors.numpy import load_file, save_file

from stages.convert import calibration


def read_passages() -> list[str]:
    """Return 150 different passages in several languages."""
    lines = calibration.TEXTS.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line for line in lines if not line.startswith("#")))[:150]


def write_task(folder: Path) -> Path:
    """Write a retrieval task: the first half of each passage shall find the rest."""
    folder.mkdir(parents=True)
    passages = [text.split() for text in read_passages()]
    passages = [words for words in passages if len(words) >= 6]
    halves = [(" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])) for words in passages]
    rows = [{"id": str(number), "text": text} for number, (text, _) in enumerate(halves)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    rows = [{"id": str(number), "title": "", "text": text} for number, (_, text) in enumerate(halves)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    labels = "".join(f"{number}\t{number}\t1\n" for number in range(len(halves)))
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{labels}", encoding="utf-8")
    return folder


def write_words(path: Path) -> Path:
    """Write the words of the passages, one a line: enough texts to fit a map of static vectors to."""
    words = sorted({word for text in read_passages() for word in text.split()})
    path.write_text("\n".join(words), encoding="utf-8")
    return path


def change_static(converted: Callable[[str], Path], folder: Path, name: str) -> Callable[[str], Path]:
    """Return a function like `converted` whose static variant has another vector space.

    Args:
        converted: gives the folder of a default variant.
        folder: where the changed variant is written.
        name: "turned", whose rows are the default ones turned by one rotation, or "foreign", whose rows are random.
    """
    out = shutil.copytree(converted("static"), folder / "static")
    table = load_file(out / "table.safetensors")["embeddings"].astype(np.float32)
    rng = np.random.default_rng(0)
    if name == "turned":
        rotation, _ = np.linalg.qr(rng.standard_normal((table.shape[1], table.shape[1])))
        table = table @ rotation.astype(np.float32)
    else:
        table = rng.standard_normal(table.shape, np.float32)
    codes = np.rint(table * (127 / np.abs(table).max())).astype(np.int8)
    save_file({"embeddings": np.ascontiguousarray(codes)}, out / "table.safetensors")
    record = json.loads((out / "variant.json").read_text())
    (out / "variant.json").write_text(json.dumps(record | {"space_id": hashlib.sha256(name.encode()).hexdigest()[:16]}))
    body = manifest.read(out)
    (out / "manifest.json").unlink()
    manifest.write(out, {"stage": body.stage, "parameters": body.parameters, "inputs": body.inputs})
    return lambda variant: out if variant == "static" else converted(variant)
