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
from embed_foundry.timing import worker_process
from embed_foundry.timing.worker_pool import WorkerPool
from embed_foundry.timing.worker_process import (
    EncodeRequest,
    OperationsRequest,
    PeakRssRequest,
    WorkerError,
    WorkerProcess,
    build_environment,
)

from stages import catalog
from stages.common.records.base import Failure
from stages.common.records.latency import LatencyReport
from stages.latency.matrix_throughput import measure_matrix_throughput
from support.tiny_static import SETTINGS, list_workers, run_latency, write_variant

# What else runs on the machine is none of these tests' business.
pytestmark = pytest.mark.filterwarnings("ignore:latency. other processes")


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two CPUs")
@pytest.mark.parametrize("threads", [1, len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1])
def test_workers_and_the_asking_process_share_no_cpu_where_there_are_enough(tmp_path, threads):
    allowed = os.sched_getaffinity(0)
    with WorkerPool({"base": write_variant(tmp_path / "base")}, "base", threads, repair="") as pool:
        pool.start("base")
        worker = os.sched_getaffinity(pool.workers["base"].process.pid)
        asking = os.sched_getaffinity(0)
    assert os.sched_getaffinity(0) == allowed
    if threads < len(allowed):
        assert (len(asking), worker) == (1, allowed - asking)
    else:
        assert asking == worker == allowed


@contextlib.contextmanager
def kill_worker(name: str):
    """SIGKILL the worker of a variant once it has computed for a while."""

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for worker in list_workers(os.getpid()):
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


def test_a_killed_worker_is_its_variants_result_and_the_others_go_on(tiny_build):
    with kill_worker("twin"):
        report = run_latency(tiny_build, gap_ms=20, cold_starts=1)
    failure = report.variants["twin"]
    assert isinstance(failure, Failure)
    assert "signal 9" in failure.error
    assert report.variants["base"].lengths[32].n == 60
    assert "twin" not in (tiny_build / "latency" / "samples.csv").read_text()
    assert not list_workers(os.getpid())


def test_an_encoder_that_fails_is_its_variants_result(tiny_build):
    write_variant(tiny_build / "variants" / "broken", broken=True)
    report = run_latency(tiny_build, ("base", "broken", "twin"), rounds=6, cold_starts=1)
    assert report.variants["broken"].error.startswith("IntegrityError: 1 of 1 vectors are not finite")
    assert set(report.variants["twin"].lengths) == {8, 32}


def test_without_a_baseline_nothing_is_published_and_what_was_there_stays(tiny_build):
    run_latency(tiny_build, rounds=6, cold_starts=1)
    before = manifest.verify(tiny_build / "latency").digest
    with kill_worker("base"), pytest.raises(RetryableError, match=r"baseline base failed.*signal 9"):
        run_latency(tiny_build, rounds=1000, cold_starts=1, gap_ms=5)
    for path in sorted((tiny_build / "variants" / "base").iterdir()):
        path.unlink()
    (tiny_build / "variants" / "base").rmdir()
    write_variant(tiny_build / "variants" / "base", broken=True)
    with pytest.raises(IntegrityError, match=r"baseline base failed.*not finite"):
        run_latency(tiny_build)
    assert manifest.verify(tiny_build / "latency").digest == before
    assert not list_workers(os.getpid())


def test_a_worker_that_hangs_is_ended(tiny_build, monkeypatch):
    monkeypatch.setattr(worker_process, "STOPS_IDLE", False)  # a stopped worker hangs, as long as nobody continues it
    worker = WorkerProcess(tiny_build / "variants" / "base", 1, timeout_s=20)
    try:
        assert worker.wait_until_ready() > 0
        assert worker.ask(EncodeRequest(["a"])) > 0
        worker.timeout_s = 1
        worker.process.send_signal(signal.SIGSTOP)
        with pytest.raises(WorkerError, match="did not answer for 1 s"):
            worker.ask(EncodeRequest(["long enough to fill the pipe " * 10_000]))
        assert worker.process.wait(10) == -signal.SIGKILL
    finally:
        worker.end()


def test_a_workers_memory_is_its_own_not_its_parents(tiny_build):
    ballast = bytearray(os.urandom(1) * 500_000_000)  # ru_maxrss would report this for the child
    worker = WorkerProcess(tiny_build / "variants" / "base", 1)
    try:
        worker.wait_until_ready()
        assert worker.ask(PeakRssRequest()) < len(ballast) / 1e6
    finally:
        worker.end()


@pytest.mark.skipif(not worker_process.STOPS_IDLE, reason="only Linux kills a stopped process whose parent died")
def test_a_worker_stands_still_between_requests(tiny_build):
    worker = WorkerProcess(tiny_build / "variants" / "base", 1)
    try:
        worker.wait_until_ready()
        process = psutil.Process(worker.process.pid)
        deadline = time.monotonic() + 5
        while process.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.status() == psutil.STATUS_STOPPED
        assert worker.ask(EncodeRequest(["a"])) > 0
    finally:
        worker.end()


def test_what_a_library_prints_does_not_disturb_the_answers(tiny_build):
    script = Path(worker_process.__file__).with_name("worker.py")
    noisy = f"import os, runpy, sys; sys.argv = ['worker', {str(tiny_build / 'variants' / 'base')!r}, '1', 'cpu']\n"
    noisy += "import embed_foundry.encoders.static as s; say = s.StaticEncoder._embed\n"
    noisy += "s.StaticEncoder._embed = lambda *a: (print('hello'), os.system('echo there'), say(*a))[2]\n"
    noisy += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    request = json.dumps({"command": "encode", "texts": ["a"]}) + "\n"
    done = subprocess.run([sys.executable, "-c", noisy], input=request, capture_output=True, text=True, check=True)
    ready, answer = [json.loads(line) for line in done.stdout.splitlines()]
    assert ready == {"ready": True}
    assert answer["result"] > 0
    assert "there" in done.stderr


@pytest.fixture
def start_stage(tiny_build, params):
    """Return a function that starts `python -m stages.latency` in a folder laid out as a clone."""
    params = params.model_dump()
    params |= {"variants": {name: {"kind": "torch", "precision": "fp32"} for name in ("base", "twin")}}
    params |= {"baseline": "base", "latency": SETTINGS.model_dump(mode="json") | {"cold_starts": 1, "rounds": 6}}

    def start(**changes) -> subprocess.Popen[str]:
        (tiny_build / "params.yaml").write_text(yaml.safe_dump(params | {"latency": params["latency"] | changes}))
        catalog.run(dict.fromkeys(["base", "twin"], "static"), tiny_build / "variants", tiny_build / "catalog")
        command = [sys.executable, "-m", "stages.latency"]
        return subprocess.Popen(command, cwd=tiny_build, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_the_stage_runs_on_what_params_yaml_says(tiny_build, start_stage):
    with start_stage() as done:
        out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (0, ""), err
    assert "timed rounds: 100 %" in err  # plain lines: stderr is no terminal
    assert "\r" not in err
    assert LatencyReport.load(tiny_build / "latency" / LatencyReport.FILE).threads == 2
    (tiny_build / "machine.json").write_text("{}")
    with start_stage() as done:
        _, err = done.communicate(timeout=120)
    assert done.returncode == 2
    assert "python -m stages.machine --refresh" in err


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_stage_however_it_ends(tiny_build, start_stage, end):
    with start_stage(rounds=100_000) as running:
        deadline = time.monotonic() + 60
        while len(workers := list_workers(running.pid)) < 2 and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        assert len(workers) == 2
        running.send_signal(end)
        _, err = running.communicate(timeout=30)
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert (len(gone), alive) == (2, [])
    assert not (tiny_build / "latency").exists()
    if end != signal.SIGKILL:
        assert running.returncode == 130, err
        assert not (tiny_build / ".latency.partial").exists()


def test_operations_are_those_of_the_layers(converted):
    """MiniLM: 6 layers of 4 products of 384 x 384 and 2 of 384 x 1536 a token, and 2 of attention a pair of tokens."""
    encoder = open_variant(converted("fp32"), 1)
    text = " ".join(["bucket"] * 30)
    (tokens,) = encoder.count_tokens([text])
    worker = WorkerProcess(converted("fp32"), 1)
    try:
        worker.wait_until_ready()
        operations = worker.ask(OperationsRequest([text]))
    finally:
        worker.end()
    layers = 6 * 2 * (tokens * (4 * 384**2 + 2 * 384 * 1536) + 2 * tokens**2 * 384)
    assert layers <= operations <= 1.001 * layers


def test_what_matrix_products_reach_is_measured_here():
    gops = measure_matrix_throughput(1, build_environment(1))
    assert set(gops) == {"fp32", "bf16", "int8"}
    assert all(value > 1 for value in gops.values())
