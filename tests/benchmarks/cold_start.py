"""From the start of `embed-foundry serve` to its first answer, and what its processes have in memory, by variant.

    python tests/benchmarks/cold_start.py --scratch .cache/cold_start --runs 5

In a checkout with a finished build. Each variant gets a release of its own, so that nothing else is loaded. The first
table has medians of wall-clock seconds: from the start of the process until it listens, and until the first answer
arrived; what verifying the release took of that; and resident memory (RSS) after the answer. The second one has the
resident memory of all processes together, and what of it is shared: their proportional memory (PSS) counts each page
once, however many processes map it. Linux only: both are read from /proc/PID/smaps_rollup.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embed_foundry import Bundle

from stages import bundle, gate
from stages.common import config

CONSOLE = Path(sys.executable).with_name("embed-foundry")
MEGABYTE = 1e6
PROCESSES = (1, 2, 4)


@dataclass(frozen=True)
class Start:
    """One start, in seconds, and 10^6 bytes."""

    listening_s: float
    answered_s: float
    rss_mb: float
    pss_mb: float


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path(), help="a checkout with a finished build")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for releases of one variant each")
    parser.add_argument("--runs", type=int, default=5, help="starts of each variant")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each process")
    args = parser.parse_args()
    releases = {
        name: make_release(args.build, name, args.scratch) for name in Bundle.load(args.build / "release").order
    }
    print("| variant | listening s | first answer s | verifying s | RSS MB |\n|---|---|---|---|---|")
    for name, release in releases.items():
        starts = [measure(release, args.threads, 1) for _ in range(args.runs)]
        median = [statistics.median(values) for values in zip(*map(read_values, starts), strict=True)]
        print(f"| {name} | {median[0]:.2f} | {median[1]:.2f} | {time_verifying(release):.2f} | {median[2]:.0f} |")
    print("\n| variant | " + " | ".join(f"{count} processes: RSS, PSS MB" for count in PROCESSES) + " |")
    print("|---|" + "---|" * len(PROCESSES))
    for name, release in releases.items():
        starts = [measure(release, args.threads, count) for count in PROCESSES]
        print(f"| {name} | " + " | ".join(f"{start.rss_mb:.0f}, {start.pss_mb:.0f}" for start in starts) + " |")


def read_values(start: Start) -> tuple[float, float, float]:
    """Return what the first table shows of a start."""
    return start.listening_s, start.answered_s, start.rss_mb


def make_release(build: Path, variant: str, scratch: Path) -> Path:
    """Return a release of one variant of a finished build, by its own gate and figures."""
    folder = scratch / variant
    if not (folder / "release").exists():
        params = config.load(build / "params.yaml")
        target = params.target.model_copy(update={"candidates": [variant], "required": 1})
        places = {name: build / name for name in ("catalog", "variants", "data", *bundle.EVIDENCE)}
        places["gate"] = folder / "gate"
        folders = (places["catalog"], places["variants"], places["quality"], places["latency"], places["gate"])
        gate.run(target, params.gate, params.baseline, *folders)
        inputs = bundle.BundleInputs(**places, weights=build / "models" / "base", project=build)
        bundle.run(params.model, target, inputs, folder / "release")
    return folder / "release"


def time_verifying(release: Path) -> float:
    """Return the seconds that verifying a release takes: every file's SHA-256, and that its parts fit together."""
    began = time.perf_counter()
    Bundle.load(release)
    return time.perf_counter() - began


def measure(release: Path, threads: int, processes: int) -> Start:
    """Start a service, and have each of its processes answer."""
    with serve(release, threads, processes) as (process, url, listening_s, began):
        question = {"input": "how do I list my buckets?"}
        httpx2.post(f"{url}/v1/embeddings", json=question, timeout=60).raise_for_status()
        answered_s = time.perf_counter() - began
        if processes > 1:
            time.sleep(3 * processes)  # each opens the variant by itself, whoever answered
        workers = psutil.Process(process.pid).children()
        memory = [read_memory(each) for each in (psutil.Process(process.pid), *workers)]
        return Start(listening_s, answered_s, sum(each["Rss"] for each in memory), sum(each["Pss"] for each in memory))


@contextmanager
def serve(release: Path, threads: int, processes: int) -> Iterator[tuple["subprocess.Popen[str]", str, float, float]]:
    """Yield a started service: its process, address, seconds until it listened, and when it was started."""
    command = [CONSOLE, "serve", release, "--port", "0", "--threads", str(threads), "--processes", str(processes)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        try:
            yield process, url, time.perf_counter() - began, began
        finally:
            process.terminate()


def read_memory(process: psutil.Process) -> dict[str, float]:
    """Return a process's memory by the names of smaps_rollup, in 10^6 bytes."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    fields = (line.split() for line in lines)
    return {field[0].rstrip(":"): int(field[1]) * 1024 / MEGABYTE for field in fields}


if __name__ == "__main__":
    main()
