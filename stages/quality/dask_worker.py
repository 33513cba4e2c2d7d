"""A Dask worker's side of the cluster engine: fetch the files of one cell, evaluate it, send it back."""

import functools
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embed_foundry import IntegrityError

from stages.common.contract.output import library_versions
from stages.common.measure import host
from stages.common.records.base import Failure
from stages.quality.cell import Cell, CellRequest
from stages.quality.cell_key import LIBRARIES, code_digest
from stages.quality.evaluation import EncoderSlot, evaluate_cell
from stages.quality.file_server import FolderContent, fetch_folder, verify_shared_folder


@dataclass(frozen=True)
class Environment:
    """What driver and workers must have in common for their scores to be the same.

    Attributes:
        code: digest of the code that evaluates cells.
        python: its version.
        libraries: distribution -> version.
        flags: instruction sets that encoders' kernels use.
    """

    code: str
    python: str
    libraries: Mapping[str, str]
    flags: list[str]


@functools.cache
def current_environment() -> Environment:
    """Return this process's environment; about 1 s."""
    return Environment(
        code=code_digest(),
        python=sys.version.split()[0],
        libraries=library_versions(LIBRARIES),
        flags=host.fingerprint_machine().flags,
    )


@dataclass(frozen=True)
class CellAssignment:
    """What a worker is sent.

    Attributes:
        request: the cell; its folders are the driver's.
        variant: the variant's files.
        task: the task's files.
        server: the file server's address; "" if `shared` is set.
        shared: where the driver's working folder lies on the worker; "" if they share no disk.
        environment: what the worker must have in common with the driver.
    """

    request: CellRequest
    variant: FolderContent
    task: FolderContent
    server: str
    shared: str
    environment: Environment


@dataclass(frozen=True)
class WorkerResult:
    """What a worker sends back: a cell or its variant's failure, the vectors' bytes, and where its time went."""

    outcome: Cell | Failure
    vectors: bytes
    fetching_s: float
    evaluating_s: float


class DifferentWorkerError(Exception):
    """A worker differs from the driver in something that shapes scores."""


# One cell at a time in a process, whatever --nthreads says: only one encoder is open in it.
_BUSY = threading.Lock()
_SLOT = EncoderSlot()


def evaluate_on_worker(assignment: CellAssignment) -> WorkerResult:
    """Evaluate one cell on this worker.

    Raises:
        DifferentWorkerError: this worker's scores could differ from the driver's.
    """
    from distributed import get_worker

    worker, start = get_worker(), time.monotonic()
    with _BUSY:
        _require_same_environment(assignment.environment, str(worker.address))
        store = Path(worker.local_directory, "embed-foundry")
        variant, data = (
            verify_shared_folder(content, assignment.shared)
            if assignment.shared
            else fetch_folder(content, assignment.server, store, worker)
            for content in (assignment.variant, assignment.task)
        )
        request = replace(assignment.request, variant=variant, data=data)
        fetched = time.monotonic()
        path = store / f"{request.digest}.npz"
        outcome: Cell | Failure
        try:
            outcome = evaluate_cell(request, _SLOT.open(request), path)
        except IntegrityError as error:
            outcome = Failure(error=str(error).replace(str(variant), str(assignment.request.variant)))
        vectors = b""
        if path.is_file():
            vectors = path.read_bytes()
            path.unlink()
        return WorkerResult(outcome, vectors, fetched - start, time.monotonic() - fetched)


def _require_same_environment(expected: Environment, address: str) -> None:
    actual = current_environment()
    if actual != expected:
        driver, worker = asdict(expected), asdict(actual)
        differences = {name: (worker[name], driver[name]) for name in driver if worker[name] != driver[name]}
        raise DifferentWorkerError(
            f"worker {address}: scores would differ there; (worker, driver): {differences}. Use the same commit, "
            "requirements.lock and kind of CPU on both, or compose with engine=local."
        )
