"""The engine that evaluates cells on this machine, one-thread processes beside each other: `engine=local`.

One thread each, because scores must not depend on how many CPUs a machine has: a sum that threads share has other last
bits for every number of them.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_end
from pathlib import Path

from embed_foundry import IntegrityError, RetryableError

from stages.common.contract.output import folder_size
from stages.common.measure.capacity import count_processes
from stages.common.records.base import Failure
from stages.quality.cell import Cell, CellRequest, CellResult
from stages.quality.cell_cache import CellCache
from stages.quality.evaluation import EncoderSlot, evaluate_cell

# Memory of one process: mteb, torch and a task's texts, and a multiple of the variant's files, of which torch and
# ONNX Runtime hold a second copy in the layout that their kernels want.
PROCESS_BYTES, COPIES = 1_500_000_000, 3

# Each process's own; the last variant stays open for the next cell.
_SLOT = EncoderSlot()


def evaluate_locally(requests: Sequence[CellRequest], cache: CellCache, processes: int | None) -> Iterator[CellResult]:
    """Evaluate cells; once a variant has failed, its further cells are left out.

    Args:
        requests: the cells, those of a variant next to each other; started in this order.
        cache: where vectors of retrieval tasks are written.
        processes: how many work beside each other; None is as many as CPUs and memory allow.

    Raises:
        InputError: a variant cannot run here, or a task's file is missing: no fault of one variant, so the run ends.
        RetryableError: a process died.
    """
    if not requests:
        return
    if processes is None:
        largest = max(folder_size(folder) for folder in {request.variant for request in requests})
        processes = count_processes(PROCESS_BYTES + COPIES * largest)
    if min(processes, len(requests)) == 1:
        yield from _evaluate_here(requests, cache)
    else:
        yield from _evaluate_in_processes(requests, cache, min(processes, len(requests)))


def _evaluate_here(requests: Sequence[CellRequest], cache: CellCache) -> Iterator[CellResult]:
    """Evaluate cells in this process, one after the other."""
    slot = EncoderSlot()
    failed: set[Path] = set()
    for request in requests:
        if request.variant not in failed:
            outcome = _evaluate(request, slot, cache.vectors_path(request.digest))
            if isinstance(outcome, Failure):
                failed.add(request.variant)
            yield CellResult(request, outcome)


def _evaluate_in_processes(requests: Sequence[CellRequest], cache: CellCache, processes: int) -> Iterator[CellResult]:
    with _process_pool(processes) as pool:
        pending: dict[Future[Cell | Failure], CellRequest] = {
            pool.submit(_evaluate_in_pool, request, cache.vectors_path(request.digest)): request for request in requests
        }
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                request = pending.pop(future)
                outcome = future.result()
                if isinstance(outcome, Failure):
                    pending = {
                        other: left
                        for other, left in pending.items()
                        if left.variant != request.variant or not other.cancel()
                    }
                yield CellResult(request, outcome)


@contextmanager
def _process_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of fresh one-thread processes; none of them survives the block, whatever ends it."""
    # Started afresh, not forked: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_start_process)
    try:
        yield pool
    except BaseException as error:
        for process in multiprocessing.active_children():
            process.kill()  # a cell may take minutes to its end
        if isinstance(error, BrokenProcessPool):
            raise RetryableError(
                f"quality: one of {processes} processes died, as happens when memory runs out. Finished cells are "
                "kept. Close other programs, or compose with engine.processes=1, then run again."
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_process() -> None:
    """Let Ctrl-C to the parent, which ends this process; end with it, too, if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for_end([sentinel])
    os._exit(1)


def _evaluate_in_pool(request: CellRequest, vectors: Path) -> Cell | Failure:
    return _evaluate(request, _SLOT, vectors)


def _evaluate(request: CellRequest, slot: EncoderSlot, vectors: Path) -> Cell | Failure:
    try:
        return evaluate_cell(request, slot.open(request), vectors)
    except IntegrityError as error:
        return Failure(error=str(error))
