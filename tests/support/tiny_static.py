"""A build that the latency stage can measure within a test: variants of 200 token vectors, documents, this machine."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from embed_foundry import Variant, manifest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from stages import latency, machine
from stages.common import config
from stages.common.records.latency import LatencyReport
from stages.common.records.machine import Machine

SETTINGS = config.Latency(
    lengths=[8, 32],
    rounds=60,
    tight=1,
    budget_s=20,
    gap_ms=0,
    batch_size=4,
    batch_length=16,
    batch_rounds=6,
    cold_starts=2,
    seed=0,
)
DOCUMENTS = [
    "Deletes the specified load balancer and every listener that is attached to it, in one step.",
    "Returns a list of the tags of a resource.  You can filter the list\nby key or by value.",
    "バケットのライフサイクル設定を取得します。設定がない場合はエラーになります。",
    "Über die Schnittstelle lassen sich Regeln anlegen, ändern und löschen.",
    "Starts a job; see https://example.org/docs?id=42&lang=fr for its states.",
    *(f"Describes instance number {number} of the cluster and what it costs a month." for number in range(40)),
]


def describe(name: str, files: dict[str, str]) -> Variant:
    """Return the record of a static variant of 16 dimensions, with files by role."""
    return Variant(
        name=name,
        kind="static",
        precision="fp32",
        model="tiny",
        space_id="0",
        dimensions=16,
        matryoshka=(16,),
        max_tokens=64,
        prompts={},
        files=files,
    )


def write_variant(folder: Path, *, broken: bool = False) -> Path:
    """Write a static variant with a tokenizer of 200 pieces: what ships, small; a broken one encodes to NaN."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator(DOCUMENTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 16)).astype(np.float32)
    save_file({"embeddings": table * np.nan if broken else table}, folder / "table.safetensors")
    variant = describe(folder.name, {"table": "table.safetensors", "tokenizer": "tokenizer.json"})
    (folder / "variant.json").write_bytes(manifest.canonical(variant.to_json()))
    manifest.write(folder, {"stage": f"convert@{folder.name}"})
    return folder


def write_build(folder: Path) -> Path:
    """Fill a build's folder with data/, machine.json and variants base and twin, which are the same; return it."""
    corpus = folder / "data" / "Tiny" / "corpus.jsonl"
    corpus.parent.mkdir(parents=True)
    rows = [{"id": str(index), "title": "", "text": text} for index, text in enumerate(DOCUMENTS)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest.write(folder / "data", {"stage": "data"})
    machine.run(folder / Machine.FILE)
    for name in ("base", "twin"):
        write_variant(folder / "variants" / name)
    return folder


def run_latency(build: Path, names: tuple[str, ...] = ("base", "twin"), **changes: Any) -> LatencyReport:
    """Run the stage with SETTINGS and changes to them, and return its report.

    `cpus`, `memory_mb` and `enforce_memory` are the target's.
    """
    variants = {name: build / "variants" / name for name in names}
    given = {name: changes.pop(name) for name in ("cpus", "memory_mb", "enforce_memory") if name in changes}
    resources = config.Resources(threads=1, **{"memory_mb": 1024} | given)
    settings = SETTINGS.model_copy(update=changes)
    return latency.run(settings, variants, "base", build / "data", build / Machine.FILE, resources, build / "latency")


def list_workers(parent: int) -> list[psutil.Process]:
    """Return the measured processes under a process."""
    workers = []
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now, or nobody waited for it
            workers += [child] if any("worker.py" in part for part in child.cmdline()) else []
    return workers
