"""The engine that evaluates cells on a Dask cluster: `engine=dask engine.address=tcp://HOST:PORT`.

Workers run this repository's code from its .venv, one cell at a time. A worker is refused if anything that shapes a
score differs there. If a worker dies, another one takes its cell. A cell's content does not depend on who evaluates it.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embed_foundry import InputError, IntegrityError, RetryableError, manifest

from stages.common.config import Engine
from stages.quality import dask_worker
from stages.quality.cell import Cell, CellRequest, CellResult
from stages.quality.cell_cache import CellCache
from stages.quality.cell_key import task_files
from stages.quality.dask_worker import CellAssignment, DifferentWorkerError, WorkerResult, evaluate_on_worker
from stages.quality.file_server import FileServer, FolderContent, variant_content

if TYPE_CHECKING:
    from distributed import Client, Future

# Workers that may die on one cell; then the cell is to blame, not the cluster.
DEATHS_MAX = 3


def evaluate_on_cluster(config: Engine, requests: Sequence[CellRequest], cache: CellCache) -> Iterator[CellResult]:
    """Evaluate cells on the cluster, and print what the cluster cost beside the cells themselves.

    Args:
        config: the scheduler's address, and how long to wait for workers.
        requests: the cells.
        cache: where vectors of retrieval tasks are written.

    Raises:
        InputError: workers have other code, libraries or instruction sets.
        IntegrityError: vectors changed on the way from a worker.
        RetryableError: no scheduler answers, no worker is left, or a cell killed DEATHS_MAX workers.
    """
    if not requests:
        return
    with _connect(config) as client, _translate_errors():
        cost = ClusterCost()
        variants = {request.variant: variant_content(request.variant) for request in requests}
        tasks = {
            request.task.name: FolderContent(task_files(request.data, request.task), str(request.data))
            for request in requests
        }
        environment = dask_worker.current_environment()
        with _serve_files(config, client, [*variants.values(), *tasks.values()]) as server:
            assigned: dict[Future, CellRequest] = {}
            for request in requests:
                variant, task = variants[request.variant], tasks[request.task.name]
                assignment = CellAssignment(request, variant, task, server, config.shared or "", environment)
                assigned[client.submit(evaluate_on_worker, assignment, pure=False)] = request
            for future in _wait_for_futures(client, list(assigned), config.wait_s):
                result: WorkerResult = future.result()
                cost.add(result)
                request = assigned.pop(future)
                _store_vectors(result, cache, request)
                yield CellResult(request, result.outcome)
            cost.print(workers=_count_workers(client))


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn what Dask and workers raise into the stage's errors."""
    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise RetryableError(
            f"one cell killed {DEATHS_MAX} workers ({error}). Give the workers more memory, then run again; finished "
            "cells are kept."
        ) from None
    except DifferentWorkerError as error:
        raise InputError(str(error)) from None
    except ModuleNotFoundError as error:
        raise InputError(f"a worker lacks a module ({error}). Start workers from this clone's .venv.") from None


def _connect(config: Engine) -> "Client":
    import dask
    from distributed import Client

    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS_MAX})
    try:
        return Client(config.address, timeout=config.wait_s, name="embed-foundry")
    except OSError as error:
        raise RetryableError(
            f"engine.address={config.address}: no Dask scheduler answers ({error}). Start `dask scheduler` and "
            "workers, or compose with engine=local."
        ) from None


@contextmanager
def _serve_files(config: Engine, client: "Client", folders: Sequence[FolderContent]) -> Iterator[str]:
    """Serve files in the scheduler's protocol, where it is reached; yield the address, "" if workers share the disk."""
    from distributed.comm import get_address_host
    from distributed.utils import get_ip

    server = FileServer(folders)
    try:
        if config.shared:
            yield ""
        else:
            scheduler = str(config.address)
            address = f"{scheduler.partition('://')[0]}://{get_ip(get_address_host(scheduler))}:0"
            yield client.sync(server.open, address, client.security)
    finally:
        client.sync(server.close)


def _store_vectors(result: WorkerResult, cache: CellCache, request: CellRequest) -> None:
    if isinstance(result.outcome, Cell) and result.outcome.vectors:
        path = cache.vectors_path(request.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(result.vectors)
        if manifest.sha256(path) != result.outcome.vectors:
            raise IntegrityError(f"{path}: the vectors changed on the way from the worker. Run again.")


def _wait_for_futures(client: "Client", futures: Sequence["Future"], wait_s: float) -> Iterator["Future"]:
    """Yield futures as they end; give up after `wait_s` seconds without any worker."""
    from distributed import wait

    pending, last_alive = set(futures), time.monotonic()
    while pending:
        try:
            done = wait(pending, timeout=1, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            done = set()
        yield from done
        pending -= done
        if done or _count_workers(client):
            last_alive = time.monotonic()
        elif time.monotonic() - last_alive > wait_s:
            raise RetryableError(
                f"{client.scheduler.address}: no worker for {wait_s} s, {len(pending)} cells are left. Start workers "
                "(`dask worker ADDRESS --nthreads 1` in this clone's .venv), then run again; finished cells are kept."
            )


def _count_workers(client: "Client") -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])


@dataclass
class ClusterCost:
    """Where the workers' time went, in seconds."""

    start: float = field(default_factory=time.monotonic)
    cells: int = 0
    evaluating_s: float = 0.0
    fetching_s: float = 0.0

    def add(self, result: WorkerResult) -> None:
        """Count one cell."""
        self.cells += 1
        self.evaluating_s += result.evaluating_s
        self.fetching_s += result.fetching_s

    def print(self, workers: int) -> None:
        """Print the sums to stderr, beside the stage's progress."""
        elapsed_s = time.monotonic() - self.start
        idle = 1 - self.evaluating_s / (elapsed_s * workers) if workers else 0.0
        print(  # noqa: T201 - part of the stage's output
            f"quality: {self.cells} cells on {workers} workers in {elapsed_s:.1f} s: {self.evaluating_s:.1f} s "
            f"evaluating, {self.fetching_s:.1f} s fetching files; {idle:.0%} of the workers' time went elsewhere",
            file=sys.stderr,
        )
