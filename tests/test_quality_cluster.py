"""quality on a Dask cluster of real processes: the same bytes as in one process, whatever happens to workers."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from distributed import Client, LocalCluster
from embed_foundry import InputError, RetryableError, manifest

from stages import data, quality
from stages.common.config import Engine
from stages.quality import cluster, depot
from support.altered_copies import broken, changed

TASKS = ("AwsOperationRetrieval", "AwsServiceClassification", "WordSim353STS")


@pytest.fixture(scope="module")
def suite(params, tmp_path_factory):
    small = {"queries": 20, "corpus": 100, "services": 5, "languages": ["de"]}
    out = tmp_path_factory.mktemp("data") / "data"
    data.run(params.suite.model_copy(update=small), out)
    records = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
    few = [record for record in records if record["name"] in TASKS]
    return changed(out, out.with_name("few"), "tasks.json", json.dumps(few))


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
    ) as running:
        yield running


@pytest.fixture(scope="module")
def measure(params, suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")

    def run(variants, out, engine=quality.LOCAL):
        cells = folder / f"{out}.cells"
        quality.run(params.quality, variants, "fp32", [128], suite, folder / out, 1, cells, engine)
        return manifest.verify(folder / out).digest

    return run


def dask(address, **settings):
    return Engine(name="dask", address=address, **settings)


def kill_one_at_work(address, killed):
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
def variants(converted, tmp_path_factory):
    static = converted("static")
    alike = broken(static, tmp_path_factory.mktemp("variants") / "alike", np.ones_like)
    return {"fp32": converted("fp32"), "static": static, "alike": alike}


@pytest.fixture(scope="module")
def here(measure, variants):
    return measure(variants, "here")


def test_a_killed_worker_changes_nothing(measure, variants, here, two_workers, capfd):
    killed = []
    killer = threading.Thread(target=kill_one_at_work, args=(two_workers.scheduler_address, killed), daemon=True)
    killer.start()
    there = measure(variants, "there", dask(two_workers.scheduler_address))
    killer.join()
    assert len(killed) == 1
    assert there == here
    assert "cells on 2 workers" in capfd.readouterr().err


def test_workers_may_share_the_disk(measure, variants, here, two_workers, monkeypatch):
    monkeypatch.delattr(depot.Depot, "open")
    assert measure(variants, "shared", dask(two_workers.scheduler_address, shared="/")) == here


def test_a_worker_that_would_score_otherwise_is_refused(measure, variants, two_workers, monkeypatch):
    monkeypatch.setattr(cluster, "environment", lambda: cluster_environment() | {"flags": ["avx9"]})
    with pytest.raises(InputError, match=r"would score otherwise.*avx9.*engine=local"):
        measure(variants, "other", dask(two_workers.scheduler_address))


cluster_environment = cluster.environment


def test_no_scheduler_and_no_worker_are_said(measure, variants):
    with pytest.raises(RetryableError, match="no Dask scheduler answers"):
        measure(variants, "nobody", dask("tcp://127.0.0.1:9", wait_s=1))
    with (
        LocalCluster(n_workers=0, dashboard_address=None) as idle,
        pytest.raises(RetryableError, match="has had no worker for 1 s, 12 cells are left"),
    ):
        measure(variants, "idle", dask(idle.scheduler_address, wait_s=1))
