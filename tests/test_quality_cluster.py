"""quality on a Dask cluster of real processes: the same bytes as in one process, whatever happens to workers."""

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from distributed import Client, LocalCluster
from embed_foundry import InputError, RetryableError, manifest

from stages import convert, quality
from stages.common.config import Engine
from stages.quality import dask_worker
from stages.quality.file_server import FileServer
from support.altered_copies import broken

ALONE = Engine(name="local", processes=1)
TASKS = ("AwsOperationRetrieval", "AwsServiceClassification", "WordSim353STS")


@pytest.fixture(scope="module")
def suite(select_tasks):
    return select_tasks(*TASKS)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
    ) as running:
        yield running


@pytest.fixture(scope="module")
def evaluate(params, suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")

    def run(variants, out, engine=ALONE):
        cache = folder / f"{out}.cells"
        quality.run(params.quality, variants, "fp32", [32], suite, folder / out, cache, engine)
        return manifest.verify(folder / out).digest

    return run


def dask(address, **settings):
    return Engine(name="dask", address=address, **settings)


def kill_a_busy_worker(address, killed):
    """SIGKILL the first worker that has had the same cell for half a second."""
    with Client(address) as client:
        since, processes = {}, client.run(os.getpid)
        while not killed:
            now = time.monotonic()
            busy = {(worker, key) for worker, keys in client.processing().items() for key in keys}
            since = {pair: since.get(pair, now) for pair in busy}
            for (worker, _), start in since.items():
                if now - start > 0.5:
                    os.kill(processes[worker], signal.SIGKILL)
                    killed.append(worker)
                    return
            time.sleep(0.05)


@pytest.fixture(scope="module")
def variants(params, recipes, gemma, converted, tmp_path_factory):
    """Return a small Gemma3 in torch, whose folder has folders, the real static table, and one that is broken."""
    static, folder = converted("static"), tmp_path_factory.mktemp("variants")
    model = params.model.model_copy(update={"dimensions": 48, "matryoshka": [48], "max_tokens": 1024})
    convert.run("fp32", recipes["fp32"], model, gemma, folder / "fp32", cache=folder / "cache")
    return {"fp32": folder / "fp32", "static": static, "alike": broken(static, folder / "alike", np.ones_like)}


@pytest.fixture(scope="module")
def local_digest(evaluate, variants):
    return evaluate(variants, "local")


def test_a_killed_worker_changes_nothing(evaluate, variants, local_digest, two_workers, capfd):
    killed = []
    killer = threading.Thread(target=kill_a_busy_worker, args=(two_workers.scheduler_address, killed), daemon=True)
    killer.start()
    digest = evaluate(variants, "cluster", dask(two_workers.scheduler_address))
    killer.join()
    assert len(killed) == 1
    assert digest == local_digest
    assert "cells on 2 workers" in capfd.readouterr().err


@pytest.mark.slow
def test_workers_may_share_the_disk(evaluate, variants, local_digest, two_workers, monkeypatch):
    monkeypatch.delattr(FileServer, "open")
    assert evaluate(variants, "shared", dask(two_workers.scheduler_address, shared="/")) == local_digest


def test_a_worker_whose_scores_would_differ_is_refused(evaluate, variants, two_workers, monkeypatch):
    environment = replace(dask_worker.current_environment(), flags=["avx9"])
    monkeypatch.setattr(dask_worker, "current_environment", lambda: environment)
    with pytest.raises(InputError, match=r"scores would differ there.*avx9.*engine=local"):
        evaluate(variants, "other", dask(two_workers.scheduler_address))


def test_a_missing_scheduler_and_missing_workers_are_reported(evaluate, variants):
    with pytest.raises(RetryableError, match="no Dask scheduler answers"):
        evaluate(variants, "nobody", dask("tcp://127.0.0.1:9", wait_s=1))
    with (
        LocalCluster(n_workers=0, dashboard_address=None) as idle,
        pytest.raises(RetryableError, match="no worker for 1 s, 12 cells are left"),
    ):
        evaluate(variants, "idle", dask(idle.scheduler_address, wait_s=1))
