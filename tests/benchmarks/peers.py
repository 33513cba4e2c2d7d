"""Our variants against what a user would take instead, interleaved in one run on this machine.

    python tests/benchmarks/peers.py --base models/base --variants variants --lengths 16,128,256 --batch 32x128
    python tests/benchmarks/peers.py --base BASE --variants DIR --sts shared/data/STSBenchmark/test.csv --prompt STS

Prints a Markdown table: median of paired speed-ups over sentence-transformers torch fp32 with the 10th and 90th
percentile, MB on disk, cosine to torch over 50 texts, seconds to the first vector, peak memory, and with --sts the
Spearman correlation on STSBenchmark. Peers whose package is not installed are left out, by name. Not a test: figures
depend on the machine, which must be quiet.
"""

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[2]
GAP_S = 0.06  # spinning threads of the process before would slow the next one
BUDGET_S = 25.0  # for one length; at least five rounds whatever it takes
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2") | {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
}


class Peer:
    """One way in its own process."""

    def __init__(self, label, way, base, folder, size):
        self.label, self.size = label, size
        words = [sys.executable, str(Path(__file__).with_name("peer.py")), way, str(base), str(folder)]
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | ENVIRONMENT,
        )
        line = self.process.stdout.readline()
        self.error = None if line else self.process.stderr.read().strip().splitlines()[-1]
        self.ready = json.loads(line)["ready"] if line else None
        self.rss = self.ask(["What is the capital of France?"], rss=True)["rss"] if line else None

    def ask(self, texts, **wanted):
        """Return the peer's answer for the texts in one call."""
        self.process.stdin.write(json.dumps({"texts": texts} | wanted) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def vectors(self, texts, size=1):
        """Return the vectors of the texts, `size` a call."""
        calls = [self.ask(texts[at : at + size], vectors=True)["vectors"] for at in range(0, len(texts), size)]
        return np.array([row for rows in calls for row in rows])


def build(base, folder, only):
    """Export the peers' own files beside a link to the model; return folder and file by way, what failed by reason."""
    from sentence_transformers import (
        SentenceTransformer,
        export_dynamic_quantized_onnx_model,
        export_optimized_onnx_model,
        export_static_quantized_openvino_model,
    )

    # Their folder is a whole model without its weights, whichever of the exports are asked for.
    shutil.copytree(base, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.safetensors"))
    for weights in base.glob("*/*.safetensors"):  # heads
        shutil.copyfile(weights, folder / weights.relative_to(base))
    made, failed = {}, {}
    steps = {
        "onnx": {
            "st_onnx": ("onnx/model.onnx", lambda model: model.save_pretrained(str(folder), create_model_card=False)),
            "st_onnx_O3": ("onnx/model_O3.onnx", lambda model: export_optimized_onnx_model(model, "O3", str(folder))),
            "st_onnx_int8": (
                "onnx/model_qint8_avx512_vnni.onnx",
                lambda model: export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder)),
            ),
        },
        "openvino": {
            "st_openvino_int8": (
                "openvino/openvino_model_qint8_quantized.xml",
                lambda model: export_static_quantized_openvino_model(model, None, str(folder)),
            ),
        },
    }
    for backend, ways in steps.items():
        model = None
        for way, (file, export) in ways.items():
            if only and way not in only:
                continue
            try:
                if not (folder / file).exists():
                    model = model or SentenceTransformer(
                        str(base), backend=backend, device="cpu", model_kwargs={"export": True}
                    )
                    export(model)
                stem = (folder / file).with_suffix("")
                made[way] = sum(path.stat().st_size for path in stem.parent.glob(f"{stem.name}.*"))
            except Exception as error:
                failed[way] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    if "st_onnx" in made:
        made["fastembed"] = made["st_onnx"]
    return made, failed


def text_of(tokenizer, words, length, shift):
    """Return words from `shift` on that make exactly or just under `length` tokens."""
    low, high = 1, length + 1
    while high - low > 1:
        middle = (low + high) // 2
        fits = len(tokenizer.encode(" ".join(words[shift : shift + middle])).ids) <= length
        low, high = (middle, high) if fits else (low, middle)
    return " ".join(words[shift : shift + low])


def measure(peers, texts, busy):
    """Return times in ms [rounds, peers]: every peer once a round in random order; busy: after an untimed call."""
    for peer in peers:
        peer.ask(texts[0])
    once = sum(peer.ask(texts[0])["ms"] / 1000 + GAP_S for peer in peers)
    rounds = max(5, min(60, int(BUDGET_S / once)))
    times = np.zeros((rounds, len(peers)))
    for at in range(rounds):
        for index in random.sample(range(len(peers)), len(peers)):
            if busy:
                peers[index].ask(texts[(at + 1) % len(texts)])
            times[at, index] = peers[index].ask(texts[at % len(texts)])["ms"]
            time.sleep(GAP_S)
    return times


def sts(peer, path, prompt):
    """Return Spearman x 100 of cosine against the gold scores, each text under the prompt."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    left, right = (peer.vectors([prompt + row[f"sentence{n}"] for row in rows], 16) for n in (1, 2))
    return 100 * spearmanr((left * right).sum(axis=1), [float(row["score"]) for row in rows]).statistic


def main():
    """Build the peers, run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the SentenceTransformer folder")
    parser.add_argument("--variants", type=Path, required=True, help="folder of variant folders; all are run")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the peers' exports, kept for next time")
    parser.add_argument("--only", default="", help="comma-separated labels to run beside torch")
    parser.add_argument("--lengths", default="16,128,256")
    parser.add_argument("--batch", default="", help="such as 32x128: texts x tokens of one more timing")
    parser.add_argument("--busy", action="store_true", help="time calls of a process at work, not of one that idled")
    parser.add_argument("--sts", type=Path, help="test.csv of STSBenchmark: sentence1, sentence2, score")
    parser.add_argument("--prompt", default="", help="put before every STS text")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    from tokenizers import Tokenizer

    arguments.scratch.mkdir(parents=True, exist_ok=True)
    only = set(filter(None, arguments.only.split(",")))
    made, failed = build(arguments.base, arguments.scratch, only)
    plan = [("torch", "torch", arguments.base, sum(p.stat().st_size for p in arguments.base.rglob("*.safetensors")))]
    plan += [(way, way, arguments.scratch, size) for way, size in made.items() if not only or way in only]
    for folder in sorted(path.parent for path in arguments.variants.glob("*/variant.json")):
        if not only or folder.name in only:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            plan.append((folder.name, "variant", folder, size))
    peers = []
    for label, way, folder, size in plan:
        peer = Peer(label, way, arguments.base, folder, size)
        if peer.error:
            failed[label] = peer.error
        else:
            peers.append(peer)
    words = (ROOT / "stages/common/sources/probe_texts.txt").read_text(encoding="utf-8").split() * 12
    tokenizer = Tokenizer.from_file(str(arguments.base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    columns = {}
    for spec in [*arguments.lengths.split(","), *filter(None, [arguments.batch])]:
        count, _, length = spec.rpartition("x")
        several = [text_of(tokenizer, words, int(length), 7 * at) for at in range(int(count or 1) * 6)]
        texts = [several[at::6][: int(count or 1)] for at in range(6)]
        times = measure(peers, texts, arguments.busy)
        ratios = times[:, :1] / times
        columns[f"{spec} tok"] = [
            f"{np.median(r):.2f} [{np.quantile(r, 0.1):.1f}-{np.quantile(r, 0.9):.1f}]" for r in ratios.T
        ]
        print(f"{spec}: torch {np.median(times[:, 0]):.1f} ms, {len(times)} rounds", file=sys.stderr, flush=True)
    probes = (ROOT / "stages/common/sources/probe_texts.txt").read_text(encoding="utf-8").splitlines()
    reference = peers[0].vectors(probes)
    found = [peer.vectors(probes) for peer in peers]
    # Vectors of another length lie in a space of their own: no cosine.
    cosines = [(v * reference).sum(axis=1) if v.shape == reference.shape else np.array([np.nan]) for v in found]
    columns["MB"] = [f"{peer.size / 1e6:.0f}" for peer in peers]
    columns["cosine mean / min"] = [f"{c.mean():.4f} / {c.min():.4f}" for c in cosines]
    columns["first vector s"] = [f"{peer.ready:.1f}" for peer in peers]
    columns["RSS MB"] = [f"{peer.rss:.0f}" for peer in peers]
    if arguments.sts:
        scores = [sts(peer, arguments.sts, arguments.prompt) for peer in peers]
        columns["STSBenchmark"] = [f"{score:.2f} ({score - scores[0]:+.2f})" for score in scores]
    print("| | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for at, peer in enumerate(peers):
        print(f"| {peer.label} | " + " | ".join(column[at] for column in columns.values()) + " |")
    for label, reason in failed.items():
        print(f"\nnot run: {label}: {reason}")
    for peer in peers:
        peer.process.stdin.close()
        peer.process.wait()


if __name__ == "__main__":
    main()
