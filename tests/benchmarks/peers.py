"""Our variants against what a user would take instead, interleaved in one run on this machine.

    python tests/benchmarks/peers.py --base models/base --variants variants --lengths 16,128,256 --batch 32x128
    python tests/benchmarks/peers.py --base BASE --variants DIR --sts shared/data/STSBenchmark/test.csv --prompt STS

Prints a Markdown table: median of paired speed-ups over sentence-transformers torch fp32 with the 10th and 90th
percentile, MB on disk, cosine to torch over 50 texts, seconds to the first vector, peak memory, and with --sts the
Spearman correlation on STSBenchmark. Peers whose package is not installed are listed as not run. Not a test: figures
depend on the machine, which must be idle.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from stages.convert.graph.optimum_export import prepare_environment

ROOT = Path(__file__).resolve().parents[2]
PROBE_TEXTS = ROOT / "stages/common/sources/probe_texts.txt"
GAP_S = 0.06  # a previous process's threads keep spinning for a while, and would slow the next one
BUDGET_S = 25.0  # for one length; at least five rounds in any case
QUESTION = "What is the capital of France?"
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2") | {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
}
# Runners that need optimum-onnx, which lives in a folder of its own.
OPTIMUM, OPTIMUM_CACHE = "st_", ROOT / ".cache/convert"


class Peer:
    """One runner of peer.py in its own process.

    Attributes:
        label: its row in the table.
        size: bytes of its files.
        error: why it did not start; None if it runs.
        ready: seconds from import to the first vector.
        rss: peak resident memory in 10^6 bytes.
    """

    def __init__(self, label, runner, base, folder, size):
        self.label, self.size = label, size
        command = [sys.executable, str(Path(__file__).with_name("peer.py")), runner, str(base), str(folder)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=build_environment(optimum=runner.startswith(OPTIMUM)),
        )
        line = self.process.stdout.readline()
        self.error = None if line else self.process.stderr.read().strip().splitlines()[-1]
        self.ready = json.loads(line)["ready"] if line else None
        self.rss = self.request([QUESTION], rss=True)["rss"] if line else None

    def request(self, texts, **options):
        """Return the peer's answer for the texts in one call."""
        self.process.stdin.write(json.dumps({"texts": texts} | options) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def encode(self, texts, size=1):
        """Return the vectors of the texts, `size` a call."""
        batches = [texts[start : start + size] for start in range(0, len(texts), size)]
        return np.array([row for batch in batches for row in self.request(batch, vectors=True)["vectors"]])

    def stop(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def build_environment(*, optimum):
    """Return the environment of a process, with optimum-onnx's packages in front of others or without."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | ENVIRONMENT
    return environment | ({"PYTHONPATH": str(prepare_environment(OPTIMUM_CACHE).resolve())} if optimum else {})


def export_models(base, scratch, only):
    """Let sentence-transformers export the model in a process with optimum-onnx; bytes by runner, failure by runner."""
    command = [sys.executable, Path(__file__).with_name("exports.py"), base, scratch, ",".join(only)]
    process = subprocess.run(
        command, env=build_environment(optimum=True), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(process.stdout.splitlines()[-1])


def start_peers(base, variants, scratch, only):
    """Start torch, the libraries' exports and our variants; return the peers, and failure by label."""
    sizes, failures = export_models(base, scratch, only)
    plan = [("torch", "torch", base, sum(path.stat().st_size for path in base.rglob("*.safetensors")))]
    plan += [(runner, runner, scratch, size) for runner, size in sizes.items() if not only or runner in only]
    for folder in sorted(path.parent for path in variants.glob("*/variant.json")):
        if not only or folder.name in only:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            plan.append((folder.name, "variant", folder, size))
    peers = []
    for label, runner, folder, size in plan:
        peer = Peer(label, runner, base, folder, size)
        if peer.error:
            failures[label] = peer.error
        else:
            peers.append(peer)
    return peers, failures


def make_text(tokenizer, probe_words, length, shift):
    """Return the words from `shift` on that have exactly or just under `length` tokens."""
    low, high = 1, length + 1
    while high - low > 1:
        middle = (low + high) // 2
        fits = len(tokenizer.encode(" ".join(probe_words[shift : shift + middle])).ids) <= length
        low, high = (middle, high) if fits else (low, middle)
    return " ".join(probe_words[shift : shift + low])


def make_batches(base, specification):
    """Return six batches of texts for "LENGTH", one text a batch, or "COUNTxLENGTH"."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    probe_words = PROBE_TEXTS.read_text(encoding="utf-8").split() * 12
    count, _, length = specification.rpartition("x")
    size = int(count or 1)
    texts = [make_text(tokenizer, probe_words, int(length), 7 * index) for index in range(size * 6)]
    return [texts[index::6][:size] for index in range(6)]


def measure_times(peers, batches, *, busy, fewest=5):
    """Return times in ms [rounds, peers]: every peer once a round in random order.

    Args:
        peers: what is timed.
        batches: texts of one call each, taken in turn.
        busy: time a call after an untimed one.
        fewest: rounds even where they exceed the budget.
    """
    for peer in peers:
        peer.request(batches[0])
    round_s = sum(peer.request(batches[0])["ms"] / 1000 + GAP_S for peer in peers)
    rounds = max(fewest, min(60, int(BUDGET_S / round_s)))
    times = np.zeros((rounds, len(peers)))
    for number in range(rounds):
        for index in random.sample(range(len(peers)), len(peers)):
            if busy:
                peers[index].request(batches[(number + 1) % len(batches)])
            times[number, index] = peers[index].request(batches[number % len(batches)])["ms"]
            time.sleep(GAP_S)
    return times


def describe_speedups(times):
    """Return each peer's speed-up over the first one: median [10th-90th percentile]."""
    return [
        f"{np.median(ratios):.2f} [{np.quantile(ratios, 0.1):.1f}-{np.quantile(ratios, 0.9):.1f}]"
        for ratios in (times[:, :1] / times).T
    ]


def measure_sts(peer, path, prompt):
    """Return Spearman x 100 of cosine against the gold scores, each text with the prompt in front."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    left, right = (peer.encode([prompt + row[f"sentence{side}"] for row in rows], 16) for side in (1, 2))
    return 100 * spearmanr((left * right).sum(axis=1), [float(row["score"]) for row in rows]).statistic


def compare_cosines(peers):
    """Return each peer's cosines to the first one's vectors of the probe texts; NaN where dimensions differ."""
    probes = PROBE_TEXTS.read_text(encoding="utf-8").splitlines()
    reference, *others = (peer.encode(probes) for peer in peers)
    # Vectors of another length lie in a space of their own: no cosine.
    return [
        (vectors * reference).sum(axis=1) if vectors.shape == reference.shape else np.array([np.nan])
        for vectors in (reference, *others)
    ]


def print_table(peers, columns):
    """Print a row for each peer; `columns` are cells by title."""
    print("| | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for peer, *cells in zip(peers, *columns.values(), strict=True):
        print(f"| {peer.label} | " + " | ".join(cells) + " |")


def parse_arguments():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the SentenceTransformer folder")
    parser.add_argument("--variants", type=Path, required=True, help="folder of variant folders; all are run")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the peers' exports, kept for next time")
    parser.add_argument("--only", default="", help="comma-separated labels to run beside torch")
    parser.add_argument("--lengths", default="16,128,256")
    parser.add_argument("--batch", default="", help="one more timing, such as 32x128: texts x tokens")
    parser.add_argument("--busy", action="store_true", help="time calls of a process at work, not of an idle one")
    parser.add_argument("--sts", type=Path, help="test.csv of STSBenchmark: sentence1, sentence2, score")
    parser.add_argument("--prompt", default="", help="put before every STS text")
    return parser.parse_args()


def main():
    """Export and run the peers, print the table."""
    arguments = parse_arguments()
    warnings.simplefilter("ignore")
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    only = set(filter(None, arguments.only.split(",")))
    peers, failures = start_peers(arguments.base, arguments.variants, arguments.scratch, only)
    columns = {}
    for specification in [*arguments.lengths.split(","), *filter(None, [arguments.batch])]:
        times = measure_times(peers, make_batches(arguments.base, specification), busy=arguments.busy)
        columns[f"{specification} tok"] = describe_speedups(times)
        median = np.median(times[:, 0])
        print(f"{specification}: torch {median:.1f} ms, {len(times)} rounds", file=sys.stderr, flush=True)
    columns["MB"] = [f"{peer.size / 1e6:.0f}" for peer in peers]
    columns["cosine mean / min"] = [f"{values.mean():.4f} / {values.min():.4f}" for values in compare_cosines(peers)]
    columns["first vector s"] = [f"{peer.ready:.1f}" for peer in peers]
    columns["RSS MB"] = [f"{peer.rss:.0f}" for peer in peers]
    if arguments.sts:
        scores = [measure_sts(peer, arguments.sts, arguments.prompt) for peer in peers]
        columns["STSBenchmark"] = [f"{score:.2f} ({score - scores[0]:+.2f})" for score in scores]
    print_table(peers, columns)
    for label, reason in failures.items():
        print(f"\nnot run: {label}: {reason}")
    for peer in peers:
        peer.stop()


if __name__ == "__main__":
    main()
