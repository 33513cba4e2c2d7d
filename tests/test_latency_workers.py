"""Latency's processes: what they answer, what happens when one dies, that none outlives the stage."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml
from embed_foundry import IntegrityError, RetryableError, manifest, open_variant

from stages import catalog, latency
from stages.latency import peak
from stages.latency.team import Worker, WorkerError, environment
from support.tiny_static import SETTINGS, measure, static, workers

# What else runs on the machine is none of these tests' business.
pytestmark = pytest.mark.filterwarnings("ignore:latency. other processes")


@contextlib.contextmanager
def killed(name: str):
    """SIGKILL the worker of a variant once it has computed for a while."""

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for worker in workers(os.getpid()):
                if (
                    any(part.endswith(f"/{name}") for part in worker.cmdline())
                    and time.time() - worker.create_time() > 1
                ):
                    worker.kill()
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


def test_a_killed_worker_is_its_variants_result_and_the_others_go_on(place):
    with killed("twin"):
        report = measure(place, gap_ms=20, cold_starts=1)
    assert "signal 9" in report["variants"]["twin"]["error"]
    assert set(report["variants"]["twin"]) == {"error"}
    assert report["variants"]["base"]["lengths"]["32"]["n"] == 60
    assert "twin" not in (place / "latency" / "samples.csv").read_text()
    assert not workers(os.getpid())


def test_an_encoder_that_fails_is_its_variants_result(place):
    static(place / "variants" / "broken", broken=True)
    report = measure(place, ("base", "broken", "twin"), rounds=6, cold_starts=1)
    assert report["variants"]["broken"]["error"].startswith("IntegrityError: 1 of 1 vectors are not finite")
    assert set(report["variants"]["twin"]["lengths"]) == {"8", "32"}


def test_without_a_baseline_nothing_is_published_and_what_was_there_stays(place):
    measure(place, rounds=6, cold_starts=1)
    before = manifest.verify(place / "latency").digest
    with killed("base"), pytest.raises(RetryableError, match=r"baseline base failed.*signal 9"):
        measure(place, rounds=1000, cold_starts=1, gap_ms=5)
    for path in sorted((place / "variants" / "base").iterdir()):
        path.unlink()
    (place / "variants" / "base").rmdir()
    static(place / "variants" / "base", broken=True)
    with pytest.raises(IntegrityError, match=r"baseline base failed.*not finite"):
        measure(place)
    assert manifest.verify(place / "latency").digest == before
    assert not workers(os.getpid())


def test_a_worker_that_hangs_is_ended(place):
    worker = Worker(place / "variants" / "base", 1, timeout_s=20)
    try:
        assert worker.first_vector() > 0
        assert worker.ask("encode", ["a"])["ms"] > 0
        worker.timeout_s = 1
        worker.process.send_signal(signal.SIGSTOP)
        with pytest.raises(WorkerError, match="no answer for 1 s"):
            worker.ask("encode", ["long enough to fill the pipe " * 10_000])
        assert worker.process.wait(10) == -signal.SIGKILL
    finally:
        worker.end()


def test_a_workers_memory_is_its_own_not_its_parents(place):
    ballast = bytearray(os.urandom(1) * 500_000_000)  # ru_maxrss would report this for the child
    worker = Worker(place / "variants" / "base", 1)
    try:
        worker.first_vector()
        assert worker.ask("rss")["peak_rss_mb"] < len(ballast) / 1e6
    finally:
        worker.end()


def test_what_a_library_prints_does_not_disturb_the_answers(place):
    script = Path(latency.__file__).with_name("worker.py")
    noisy = f"import os, runpy, sys; sys.argv = ['worker', {str(place / 'variants' / 'base')!r}, '1']\n"
    noisy += "import embed_foundry.static as s; say = s.StaticEncoder._embed\n"
    noisy += "s.StaticEncoder._embed = lambda *a: (print('hello'), os.system('echo there'), say(*a))[2]\n"
    noisy += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    request = json.dumps({"do": "encode", "texts": ["a"]}) + "\n"
    done = subprocess.run([sys.executable, "-c", noisy], input=request, capture_output=True, text=True, check=True)
    ready, timed = [json.loads(line) for line in done.stdout.splitlines()]
    assert ready == {"ready": True}
    assert timed["ms"] > 0
    assert "there" in done.stderr


@pytest.fixture
def stage(place, params):
    """Return a function that starts `python -m stages.latency` in a folder laid out as a clone."""
    params = params.model_dump()
    params |= {"variants": {name: {"kind": "torch", "precision": "fp32"} for name in ("base", "twin")}}
    params |= {"baseline": "base", "latency": SETTINGS.model_dump(mode="json") | {"cold_starts": 1, "rounds": 6}}

    def start(**changes) -> subprocess.Popen[str]:
        (place / "params.yaml").write_text(yaml.safe_dump(params | {"latency": params["latency"] | changes}))
        catalog.run(["base", "twin"], place / "variants", place / "catalog")
        command = [sys.executable, "-m", "stages.latency"]
        return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_the_stage_runs_on_what_params_yaml_says(place, stage):
    with stage() as done:
        out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (0, ""), err
    assert "latency: rounds: 18/18" in err  # plain lines: stderr is no terminal
    assert "\r" not in err
    report = json.loads((place / "latency" / "latency.json").read_text())
    assert report["threads"] == 2
    (place / "machine.json").write_text("{}")
    with stage() as done:
        _, err = done.communicate(timeout=120)
    assert done.returncode == 2
    assert "python -m stages.machine --refresh" in err


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_stage_however_it_ends(place, stage, end):
    with stage(rounds=100_000) as running:
        deadline = time.monotonic() + 60
        while len(found := workers(running.pid)) < 2 and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        assert len(found) == 2
        running.send_signal(end)
        _, err = running.communicate(timeout=30)
    gone, alive = psutil.wait_procs(found, timeout=20)
    assert (len(gone), alive) == (2, [])
    assert not (place / "latency").exists()
    if end != signal.SIGKILL:
        assert running.returncode == 130, err
        assert not (place / ".latency.partial").exists()


def test_operations_are_those_of_the_layers(converted):
    """MiniLM: 6 layers of 4 products of 384 x 384 and 2 of 384 x 1536 a token, and 2 of attention a pair of tokens."""
    encoder = open_variant(converted("fp32"), 1)
    text = " ".join(["bucket"] * 30)
    (tokens,) = encoder.count_tokens([text])
    worker = Worker(converted("fp32"), 1)
    try:
        worker.first_vector()
        found = worker.ask("operations", [text])["operations"]
    finally:
        worker.end()
    layers = 6 * 2 * (tokens * (4 * 384**2 + 2 * 384 * 1536) + 2 * tokens**2 * 384)
    assert layers <= found <= 1.001 * layers


def test_what_products_reach_is_measured_here():
    found = peak.measured(1, environment(1))
    assert set(found) == {"fp32", "bf16", "int8"}
    assert all(value > 1 for value in found.values())
