"""The engine that measures cells on a Dask cluster: `engine=dask engine.address=tcp://HOST:PORT`.

Workers run this repository's code from its .venv, one cell at a time, and are refused if anything that shapes a score
differs there. A worker that dies loses its cell to another one. Dask decides where; the cells decide nothing by it.
"""

import functools
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embed_foundry import InputError, IntegrityError, RetryableError, manifest

from stages.common.config import Engine
from stages.common.contract.output import library_versions
from stages.common.measure import host
from stages.quality import cells, depot, jobs
from stages.quality.cells import Cell
from stages.quality.depot import Tree
from stages.quality.jobs import Job, Outcome

# Starts of one cell on workers that died meanwhile; then the cell, not the cluster, is to blame.
DEATHS_MAX = 3


@dataclass(frozen=True)
class Order:
    """What a worker is told.

    Attributes:
        job: the cell; its folders are the driver's.
        variant: the variant's files.
        task: the task's files.
        depot: where files are served; "" if `shared` is set.
        shared: where the driver's folder lies on the worker; "" if it does not.
        expected: what the worker must have in common with the driver (`environment`).
    """

    job: Job
    variant: Tree
    task: Tree
    depot: str
    shared: str
    expected: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a worker gives back: a cell or its variant's failure, the bytes of vectors, seconds spent in all of it."""

    outcome: Cell | str
    vectors: bytes
    fetching_s: float
    measuring_s: float


class OtherWorkerError(Exception):
    """A worker differs from the driver in something that shapes scores."""


def measure(config: Engine, todo: Sequence[Job], cache: Path) -> Iterator[Outcome]:
    """Measure on the cluster, and print what the cluster cost beside the cells themselves.

    Args:
        config: the scheduler's address, and how long to wait for workers.
        todo: the cells.
        cache: where vectors of retrieval tasks are written.

    Raises:
        InputError: workers have other code, libraries or instruction sets.
        RetryableError: no scheduler answers, no worker is left, or a cell killed DEATHS_MAX workers.
    """
    import dask
    from distributed import Client, KilledWorker
    from distributed.comm import get_address_host
    from distributed.utils import get_ip

    if not todo:
        return
    address = str(config.address)
    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS_MAX})
    try:
        client = Client(address, timeout=config.wait_s, name="embed-foundry")
    except OSError as error:
        raise RetryableError(
            f"engine.address={address}: no Dask scheduler answers ({error}). Start `dask scheduler` and workers, or "
            "compose with engine=local."
        ) from None
    with client:
        start = time.monotonic()
        trees = {job.folder: depot.variant(job.folder) for job in todo}
        tasks = {job.task: Tree(cells.files_of(job.data, job.record), str(job.data)) for job in todo}
        served = depot.Depot([*trees.values(), *tasks.values()])
        at = (
            ""
            if config.shared
            else client.sync(
                served.open, f"{address.partition('://')[0]}://{get_ip(get_address_host(address))}:0", client.security
            )
        )
        expected = environment()
        orders = [Order(job, trees[job.folder], tasks[job.task], at, config.shared or "", expected) for job in todo]
        try:
            futures = {client.submit(work, order, pure=False): order.job for order in orders}
            spent: list[tuple[float, float]] = []
            for future in _finished(client, list(futures), config.wait_s):
                answer: Answer = future.result()
                spent.append((answer.measuring_s, answer.fetching_s))
                job = futures.pop(future)
                if isinstance(answer.outcome, Cell) and answer.outcome.vectors:
                    path = cells.vectors_of(cache, job.digest)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(answer.vectors)
                    if manifest.sha256(path) != answer.outcome.vectors:
                        raise IntegrityError(f"{path}: the vectors changed on their way. Run again.")
                yield job, answer.outcome
            _say(spent, time.monotonic() - start, len(client.scheduler_info(n_workers=-1)["workers"]))
        except KilledWorker as error:
            raise RetryableError(
                f"a cell ended {DEATHS_MAX} workers ({error}). Give workers more memory; finished cells are kept."
            ) from None
        except OtherWorkerError as error:
            raise InputError(str(error)) from None
        except ModuleNotFoundError as error:
            raise InputError(f"a worker lacks a module ({error}). Start workers from this clone's .venv.") from None
        finally:
            client.sync(served.close)


@functools.cache
def environment() -> dict[str, Any]:
    """Return what must be the same on the driver and on every worker for scores to be the same."""
    return {
        "code": cells.code(),
        "python": sys.version.split()[0],
        "libraries": library_versions(cells.LIBRARIES),
        "flags": host.fingerprint()["flags"],
    }


def _finished(client: Any, futures: Sequence[Any], wait_s: float) -> Iterator[Any]:  # noqa: ANN401
    """Yield futures as they end; give up when no worker was there for `wait_s` seconds."""
    from distributed import wait

    left, seen = set(futures), time.monotonic()
    while left:
        try:
            done = wait(left, timeout=1, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            done = set()
        yield from done
        left -= done
        if done or client.scheduler_info(n_workers=-1)["workers"]:
            seen = time.monotonic()
        elif time.monotonic() - seen > wait_s:
            raise RetryableError(
                f"{client.scheduler.address}: has had no worker for {wait_s} s, {len(left)} cells are left. Start "
                "some (`dask worker ADDRESS --nthreads 1` in this clone's .venv), then run again; finished cells stay."
            )


def _say(spent: Sequence[tuple[float, float]], wall_s: float, workers: int) -> None:
    measuring, fetching = (sum(column) for column in zip(*spent, strict=True))
    share = 1 - measuring / (wall_s * workers) if workers else 0.0
    print(  # noqa: T201 - part of the stage's output, beside its progress
        f"quality: {len(spent)} cells on {workers} workers in {wall_s:.1f} s: {measuring:.1f} s measuring, "
        f"{fetching:.1f} s fetching files; {share:.0%} of the workers' time went elsewhere",
        file=sys.stderr,
    )


# On a worker. One cell at a time in a process, whatever --nthreads says: encoders take the threads of the target.
_ALONE = threading.Lock()
# The variant that is open: (digest of its files, limit of tokens) -> adapter.
_OPEN: dict[tuple[str, int | None], Any] = {}


def work(order: Order) -> Answer:
    """Measure one cell on this worker.

    Raises:
        OtherWorkerError: this worker would score otherwise than the driver.
    """
    from distributed import get_worker

    worker, start = get_worker(), time.monotonic()
    with _ALONE:
        _require_same(order.expected, str(worker.address))
        store = Path(worker.local_directory, "embed-foundry")
        folder, data = (
            depot.shared(tree, order.shared) if order.shared else depot.fetched(tree, order.depot, store, worker)
            for tree in (order.variant, order.task)
        )
        job = replace(order.job, folder=folder, data=data)
        fetched = time.monotonic()
        vectors = store / f"{job.digest}.npz"
        try:
            wanted = (order.variant.digest, job.max_tokens)
            if wanted not in _OPEN:
                _OPEN.clear()  # before the next one is opened: two may not fit
                _OPEN[wanted] = jobs.opened(job)
            outcome: Cell | str = jobs.measured(job, _OPEN[wanted], vectors)
        except IntegrityError as error:
            outcome = str(error).replace(str(folder), str(order.job.folder))
        found = b""
        if vectors.is_file():
            found = vectors.read_bytes()
            vectors.unlink()
        return Answer(outcome, found, fetched - start, time.monotonic() - fetched)


def _require_same(expected: Mapping[str, Any], address: str) -> None:
    found = environment()
    if found != expected:
        differs = {key: (found[key], expected[key]) for key in expected if found[key] != expected[key]}
        raise OtherWorkerError(
            f"worker {address} would score otherwise; (there, here): {differs}. Scores must not depend on where a cell "
            "is measured: use the same commit, requirements.lock and kind of CPU, or compose with engine=local."
        )
