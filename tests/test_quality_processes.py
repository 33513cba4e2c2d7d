"""quality in several one-thread processes: the same bytes as in one, whatever happens to a process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from embed_foundry import RetryableError, manifest

from stages import quality
from stages.common.config import Engine
from stages.common.measure import capacity
from stages.common.records.base import Failure
from support.altered_copies import broken

TASKS = ("AwsOperationRetrieval", "WordSim353STS")


@pytest.fixture(scope="module")
def suite(select_tasks):
    return select_tasks(*TASKS)


@pytest.fixture(scope="module")
def variants(converted, tmp_path_factory):
    static, folder = converted("static"), tmp_path_factory.mktemp("variants")
    return {"static": static, "alike": broken(static, folder / "alike", np.ones_like)}


@pytest.fixture
def evaluate(params, suite, variants, tmp_path):
    def run(processes, out="quality", cache="cache"):
        paths = {"data": suite, "out": tmp_path / out, "cache": tmp_path / cache}
        engine = Engine(name="local", processes=processes)
        return quality.run(params.quality, variants, "static", [128], **paths, engine=engine)

    return run


def kill_a_process(killed):
    """SIGKILL the first process that this one has started and that is busy."""
    deadline = time.monotonic() + 60
    while not killed and time.monotonic() < deadline:
        for process in multiprocessing.active_children():
            if psutil.Process(process.pid).cpu_times().user > 1:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                return
        time.sleep(0.02)


def test_several_processes_give_the_bytes_of_one(evaluate, tmp_path):
    scores = evaluate(1, "alone", "first")
    assert isinstance(scores.root["alike"], Failure)
    assert evaluate(2, "together", "second") == scores
    assert manifest.verify(tmp_path / "alone").digest == manifest.verify(tmp_path / "together").digest
    assert multiprocessing.active_children() == []


def test_a_killed_process_ends_the_run_and_the_next_one_completes_it(evaluate):
    killed = []
    killer = threading.Thread(target=kill_a_process, args=(killed,), daemon=True)
    killer.start()
    with pytest.raises(RetryableError, match=r"one of 2 processes died.*engine\.processes=1.*run again"):
        evaluate(2)
    killer.join()
    assert len(killed) == 1
    assert multiprocessing.active_children() == []
    assert isinstance(evaluate(1).root["alike"], Failure)


START = """
import multiprocessing, time
from stages.quality import local_engine

if __name__ == "__main__":
    with local_engine._process_pool(2) as pool:
        print(*pool.map(abs, [-1, -2]), flush=True)
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
        time.sleep(600)
"""


def test_no_process_outlives_a_killed_stage(root, tmp_path):
    (tmp_path / "start.py").write_text(START, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(root)}
    stage = subprocess.Popen(
        [sys.executable, tmp_path / "start.py"], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert stage.stdout.readline() == "1 2\n"
    children = [psutil.Process(int(pid)) for pid in stage.stdout.readline().split()]
    assert len(children) >= 1
    stage.kill()
    stage.wait()
    stage.stdout.close()
    _gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


@pytest.mark.parametrize(("cpus", "free", "expected"), [(4, 100, 4), (4, 25, 2), (4, 3, 1), (1, 100, 1)])
def test_processes_are_as_many_as_cpus_and_memory_allow(monkeypatch, cpus, free, expected):
    monkeypatch.setattr(capacity, "available_cpus", lambda: cpus)
    monkeypatch.setattr(capacity, "available_bytes", lambda: free)
    assert capacity.count_processes(10) == expected
