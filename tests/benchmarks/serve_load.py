"""The service under load, beside what a user would write: sentence-transformers, or fastembed, behind FastAPI.

Usage: python tests/benchmarks/serve_load.py --release release --base models/base --data data [--seconds 10]
           [--fastembed PYTHON --onnx FOLDER]

PYTHON is that of an environment with fastembed, fastapi and uvicorn; FOLDER holds onnx/model.onnx as
sentence-transformers exports it, which tests/benchmarks/peers.py writes to SCRATCH/exports.

All answer the same texts, the default suite's retrieval queries and documents cut to 3 to 60 words, one a request,
one server after the other in one run, with 2 threads. Clients are a process of their own; the table has their share of
the CPU, which is the same for all. Closed loop: each of N clients asks again as soon as it is answered. Open loop:
Poisson arrivals at a share of the capacity that the closed loop of 16 clients reached.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np

# What a user would write around a library; `encode` is that library's.
SERVER = """
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Body(BaseModel):
    input: str
    model: str = ""


@app.post("/v1/embeddings")
def embed(body: Body):
    return {"data": [{"embedding": encode(body.input).tolist(), "index": 0}]}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""
SENTENCE_TRANSFORMERS = """
import sys

import torch
from sentence_transformers import SentenceTransformer

torch.set_num_threads(2)
model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)


def encode(text):
    return model.encode(text, normalize_embeddings=True)
"""
FASTEMBED = """
import json, pathlib, sys

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

folder = pathlib.Path(sys.argv[1])
width = json.loads((folder / "config.json").read_text())["hidden_size"]
source = ModelSource(hf="a/b")
TextEmbedding.add_custom_model(
    model="local", pooling=PoolingType.MEAN, normalization=True, sources=source, dim=width, model_file="onnx/model.onnx"
)
model = TextEmbedding("local", specific_model_path=str(folder), threads=2)


def encode(text):
    return next(iter(model.embed([text])))
"""
CLIENTS, SHARES = (1, 4, 16, 64), (0.5, 0.8, 1.2)
RESAMPLES = 200


@dataclass
class Run:
    """What clients met in one run: seconds of each answer, statuses, seconds in all, the clients' CPU seconds."""

    seconds: list[float]
    statuses: Counter
    wall_s: float
    client_cpu_s: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall_s

    def percentiles(self) -> str:
        """Return P50, P95, P99 in milliseconds, each with a bootstrap interval of 95 %."""
        if not self.seconds:
            return "-"
        values = np.array(self.seconds) * 1e3
        chosen = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
        parts = []
        for percent in (50, 95, 99):
            low, high = np.percentile(np.percentile(chosen, percent, axis=1), [2.5, 97.5])
            parts.append(f"{np.percentile(values, percent):.1f} [{low:.1f} {high:.1f}]")
        return " | ".join(parts)


def read_texts(data: Path) -> list[str]:
    """Return texts of 3 to 60 words from the suite's retrieval task."""
    chance = random.Random(0)
    task = data / "AwsOperationRetrieval"
    lines = [line for name in ("queries", "corpus") for line in (task / f"{name}.jsonl").read_text().splitlines()]
    texts = [" ".join(json.loads(line)["text"].split()[: chance.randint(3, 60)]) for line in lines]
    chance.shuffle(texts)
    return texts


class Load:
    """Clients of one address.

    Args:
        url: of POST /v1/embeddings.
        texts: asked in turn, so that no cache helps unless there is one; ours is switched off.
        model: as the request names it.
    """

    def __init__(self, url: str, texts: list[str], model: str) -> None:
        self.url, self.model = url, model
        self.texts = itertools.cycle(texts)

    async def ask(self, session: aiohttp.ClientSession, run: Run) -> None:
        """Ask once."""
        started = time.perf_counter()
        async with session.post(self.url, json={"input": next(self.texts), "model": self.model}) as answer:
            await answer.read()
            run.statuses[answer.status] += 1
            if answer.status == 200:
                run.seconds.append(time.perf_counter() - started)

    async def closed(self, clients: int, seconds: float) -> Run:
        """Let so many clients ask without a pause."""
        run, cpu, started = Run([], Counter(), 0, 0), time.process_time(), time.perf_counter()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def client() -> None:
                while time.perf_counter() - started < seconds:
                    await self.ask(session, run)

            await asyncio.gather(*(client() for _ in range(clients)))
        run.wall_s, run.client_cpu_s = time.perf_counter() - started, time.process_time() - cpu
        return run

    async def open(self, rate: float, seconds: float) -> Run:
        """Ask at random moments, so many a second on average, whether or not earlier requests were answered."""
        run, cpu, started = Run([], Counter(), 0, 0), time.process_time(), time.perf_counter()
        chance, due, asked = random.Random(1), 0.0, []
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            while (due := due + chance.expovariate(rate)) < seconds:
                await asyncio.sleep(max(0.0, due - (time.perf_counter() - started)))
                asked.append(asyncio.create_task(self.ask(session, run)))
            await asyncio.gather(*asked)
        run.wall_s, run.client_cpu_s = time.perf_counter() - started, time.process_time() - cpu
        return run


@contextmanager
def start(command: list[str], port: int):
    """Start a server, wait until it answers, and stop it."""
    environ = os.environ | {"OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(_wait(f"http://127.0.0.1:{port}/v1/embeddings"))
        yield f"http://127.0.0.1:{port}/v1/embeddings"
    finally:
        process.terminate()
        process.wait(timeout=60)


async def _wait(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            try:
                async with session.post(url, json={"input": "a", "model": "auto"}) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise SystemExit(f"{url}: does not answer")


def measure(name: str, load: Load, args: argparse.Namespace) -> float:
    """Print one line a load; return the answers a second of 16 clients."""
    asyncio.run(load.closed(4, 3))  # warm
    capacity = 0.0
    for clients in CLIENTS:
        run = asyncio.run(load.closed(clients, args.seconds))
        capacity = run.rate if clients == 16 else capacity
        _print(name, f"{clients} clients", run)
    for share in SHARES:
        _print(name, f"{share:.0%} of {capacity:.0f}/s", asyncio.run(load.open(share * capacity, args.seconds)))
    return capacity


def _print(name: str, load: str, run: Run) -> None:
    refused = ", ".join(f"{count} x {status}" for status, count in sorted(run.statuses.items()) if status != 200)
    share = f"{run.client_cpu_s / run.wall_s:.0%}"
    print(f"| {name} | {load} | {run.rate:.1f} | {run.percentiles()} | {refused or '-'} | {share} |", flush=True)


def main() -> None:
    """Measure ours by each variant that is named, then the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, default=Path("release"))
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--fastembed", type=Path, help="the Python of an environment with fastembed, fastapi, uvicorn")
    parser.add_argument("--onnx", type=Path, help="a model folder with onnx/model.onnx, for fastembed")
    parser.add_argument("--variants", default="onnx_int8,openvino_int8")
    parser.add_argument("--lanes", type=int, nargs="*", default=[2])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--port", type=int, default=8123)
    args = parser.parse_args()
    texts = read_texts(args.data)
    print("| server | load | answers/s | P50 ms | P95 ms | P99 ms | refused | clients' CPU |")
    print("|---|---|---|---|---|---|---|---|")
    capacities = {}
    console = Path(sys.executable).with_name("embed-foundry")
    for lanes in args.lanes:
        options = ["--threads", "2", "--lanes", str(lanes), "--cache-mb", "0"]
        with start([str(console), "serve", str(args.release), "--port", str(args.port), *options], args.port) as url:
            for variant in args.variants.split(","):
                name = f"{variant}, {lanes} lanes"
                capacities[name] = measure(name, Load(url, texts, variant), args)
    peers = {"sentence-transformers, FastAPI": [sys.executable, "-c", SENTENCE_TRANSFORMERS + SERVER, str(args.base)]}
    if args.fastembed:
        peers["fastembed, FastAPI"] = [str(args.fastembed), "-c", FASTEMBED + SERVER, str(args.onnx)]
    for port, (peer, command) in enumerate(peers.items(), args.port + 1):
        with start([*command, str(port)], port) as url:
            answers = measure(peer, Load(url, texts, ""), args)
        for name, capacity in capacities.items():
            print(f"{name}: {capacity / answers:.2f} times the answers of {peer}, 16 clients")


if __name__ == "__main__":
    main()
