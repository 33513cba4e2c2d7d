"""The engine that evaluates cells in this process, one after the other: `engine=local`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from embed_foundry import IntegrityError

from stages.common.records.base import Failure
from stages.quality.cell import Cell, CellRequest, CellResult
from stages.quality.cell_cache import CellCache
from stages.quality.evaluation import EncoderSlot, evaluate_cell


def evaluate_in_process(requests: Sequence[CellRequest], cache: CellCache) -> Iterator[CellResult]:
    """Evaluate cells in order; once a variant has failed, its further cells are left out.

    Args:
        requests: the cells.
        cache: where vectors of retrieval tasks are written.

    Raises:
        InputError: a variant cannot run here, or a task's file is missing: no fault of one variant, so the run ends.
    """
    slot = EncoderSlot()
    failed: set[Path] = set()
    for request in requests:
        if request.variant in failed:
            continue
        outcome: Cell | Failure
        try:
            outcome = evaluate_cell(request, slot.open(request), cache.vectors_path(request.digest))
        except IntegrityError as error:
            failed.add(request.variant)
            outcome = Failure(error=str(error))
        yield CellResult(request, outcome)
