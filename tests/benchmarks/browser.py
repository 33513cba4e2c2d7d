"""A release for browsers in headless Chromium: cold start, time of one text, memory, cosine to the Python runtime.

Each variant is opened in a page of its own, isolated (threads) and not; the runtime's times are from the same process
tree, one after the other, with as many threads. Usage:

    python tests/benchmarks/browser.py RELEASE [--lengths 8,32,128,256] [--rounds 30]
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embed_foundry import open_variant
from playwright.sync_api import sync_playwright

from stages.common.sources import probe_texts
from support.chromium import CHROMIUM
from support.web_server import WebServer

OPEN = """async (variant) => {
  const { openBundle } = await import("/browser/embed-foundry.js");
  const started = performance.now();
  window.encoder = await openBundle({ variant, device: "wasm", cacheMb: 0 });
  return { ms: performance.now() - started, threads: encoder.threads };
}"""
TIME = """async ([text, rounds]) => {
  const times = [];
  for (let round = 0; round < rounds + 3; round++) {
    const started = performance.now();
    const { memoryMb } = await encoder.encode([text]);
    times.push(performance.now() - started);
    window.memoryMb = memoryMb;
  }
  return { times: times.slice(3), memoryMb };
}"""
VECTORS = "async (texts) => (await encoder.encode(texts)).vectors.map((vector) => [...vector])"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path)
    parser.add_argument("--lengths", default="8,32,128,256")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    lengths = [int(length) for length in options.lengths.split(",")]
    heads = [f"{length} tok, ms (over Python)" for length in lengths]
    print(f"{os.cpu_count()} CPUs; medians of {options.rounds} texts, one a call")
    columns = [
        "variant",
        "threads",
        "MB",
        "first start, s",
        "later start, s",
        "memory, MB",
        "cosine mean / min",
        *heads,
    ]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        site = Path(scratch) / "site"
        shutil.copytree(options.release, site)
        (site / "blank.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>A page</title>')
        names = sorted(path.name for path in (site / "variants").iterdir())
        for name in names:
            for isolated in (False, True):
                if name == "static" and isolated:
                    continue
                print(_measure(playwright, site, name, isolated, lengths, options.rounds))


def _measure(playwright, site: Path, name: str, isolated: bool, lengths: list[int], rounds: int) -> str:
    """Return a variant's row."""
    probes = probe_texts.read_texts()
    with WebServer(site, isolated=isolated) as server:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = chromium.new_context()
        page = context.new_page()
        page.set_default_timeout(600_000)
        page.goto(f"{server.url}/blank.html")
        first = page.evaluate(OPEN, name)
        vectors = np.array(page.evaluate(VECTORS, probes))
        encoder = open_variant(site / "variants" / name, threads=first["threads"])
        cosines = (vectors * encoder.encode(probes)).sum(axis=1)
        cells = []
        for length in lengths:
            text = " ".join(["cat"] * (length - 2 if name != "static" else length))
            timed = page.evaluate(TIME, [text, rounds])
            here = statistics.median(timed["times"])
            cells.append(f"{here:.1f} ({here / _time(encoder, text, rounds):.1f})")
        page.close()
        page = context.new_page()
        page.goto(f"{server.url}/blank.html")
        later = page.evaluate(OPEN, name)
        chromium.close()
    size = sum(path.stat().st_size for path in (site / "variants" / name).iterdir()) / 1e6
    facts = [name, first["threads"], f"{size:.1f}", f"{first['ms'] / 1000:.2f}", f"{later['ms'] / 1000:.2f}"]
    facts += [f"{timed['memoryMb']:.0f}", f"{cosines.mean():.6f} / {cosines.min():.6f}", *cells]
    return f"| {' | '.join(map(str, facts))} |"


def _time(encoder, text: str, rounds: int) -> float:
    """Return the runtime's median milliseconds of one text."""
    times = []
    for _ in range(rounds + 3):
        started = time.perf_counter()
        encoder.encode([text])
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[3:])


if __name__ == "__main__":
    main()
