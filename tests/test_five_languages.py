"""A user's path: Markdown in five languages -> examples -> finetune=lora -> a static table of them -> a release."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from embed_foundry import open_bundle

from stages.finetune import documents
from support import five_languages, small_release

CHANGES = [
    "variant=[fp32,onnx_fp32,static]",
    "finetune=lora",
    "finetune.data.source=documents",
    "finetune.data.path=guides",
    "finetune.data.dev=0.1",
    "finetune.batch_size=16",
    "finetune.eval_steps=2",
    "variants.static.fit.file=guides",
    "target.candidates=[onnx_fp32,static]",
    "~target.limits.onnx_int8",
    "~target.limits.openvino_int8",
    # Texts are judged here, not speed: beside other work, latency refuses to judge it.
    "~target.limits.onnx_fp32.speedup_min",
    "~target.limits.static.speedup_min",
    "suite.queries=30",
    "suite.corpus=150",
    "suite.services=5",
    "suite.languages=[ru,zh_Hans]",
    "latency.lengths=[32,128]",
    "latency.rounds=9",
    "latency.budget_s=20",
    "latency.cold_starts=1",
]


@pytest.fixture
def guides(tmp_path):
    """Return a folder of documents in five languages."""
    assert five_languages.write(tmp_path / "guides") == 40
    return tmp_path / "guides"


def test_every_language_gives_as_many_passages_and_examples(guides):
    passages = documents.read_passages(guides)
    assert Counter(passage.document[:2] for passage in passages) == dict.fromkeys(five_languages.GUIDES, 24)
    triplets = documents.derive_examples(passages)
    assert Counter(triplet.group[:2] for triplet in triplets) == dict.fromkeys(five_languages.GUIDES, 24)
    assert not any("comment" in title for passage in passages for title in passage.titles)
    assert {len(passage.titles) for passage in passages} == {2}
    assert {passage.line for passage in passages} == {7, 16, 20}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_release_comes_of_it(root, guides):
    clone = guides.parent / "clone"
    small_release.git(guides.parent, "clone", "--quiet", str(root), str(clone))
    guides.rename(clone / "guides")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{clone}{os.pathsep}{clone / 'stages/runtime'}",
    }

    def run(*command):
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run("embed-foundry", "compose", *CHANGES)
    run("dvc", "repro")
    passages = [json.loads(line) for line in (clone / "finetune/lora/passages.jsonl").read_text("utf-8").splitlines()]
    record = json.loads((clone / "finetune/lora/training.json").read_text(encoding="utf-8"))
    metrics = json.loads((clone / "finetune/lora/metrics.json").read_text(encoding="utf-8"))
    examples = Counter(
        json.loads(line)["group"][:2]
        for path in (clone / "finetune/lora/triplets").glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    )
    print(len(passages), examples, record["examples"], record["steps"], record["words"], metrics["retrieval"])
    print((clone / "finetune/lora/dev.csv").read_text(), (clone / "report/verdict.txt").read_text())
    assert len(passages) == sum(examples.values()) == 120
    assert dict(examples) == dict.fromkeys(five_languages.GUIDES, 24)
    losses = [float(line.split(",")[1]) for line in (clone / "finetune/lora/dev.csv").read_text().splitlines()[1:]]
    assert losses == sorted(losses, reverse=True)
    assert metrics["retrieval"]["256"]["gain"] > 0
    assert "release: PASS" in (clone / "report/verdict.txt").read_text(encoding="utf-8")
    run("embed-foundry", "verify", "release")
    encoder = open_bundle(clone / "release")
    assert encoder.encode(["存储桶", "भंडार", "хранилище"]).shape == (3, 384)
