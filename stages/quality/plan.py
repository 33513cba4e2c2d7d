"""Which cells to evaluate: every task once, and retrieval tasks once more at each lower limit of tokens."""

from collections.abc import Sequence
from pathlib import Path

from embed_foundry import Variant, manifest
from embed_foundry.encoders.kinds import KINDS

from stages.common.config import Quality
from stages.common.records.tasks import TaskRecord
from stages.quality.cell import CellRequest, CellSettings
from stages.quality.cell_key import cell_digest, task_files

# How much faster a byte of a table is than a byte of a matrix, roughly.
LOOKUP_SPEED = 20
# The type of tasks that are evaluated on truncated texts too: their texts are the long ones.
TRUNCATED_TYPE = "Retrieval"
# The type whose full vectors are kept beside the cells, as float32.
VECTORS_TYPE, FLOAT_BYTES = "Retrieval", 4
BLOCK_BYTES = 1 << 20


def plan_cells(
    config: Quality, folder: Path, data: Path, tasks: Sequence[TaskRecord], dimensions: Sequence[int]
) -> list[CellRequest]:
    """Return the cells of one variant, those with the most text first.

    Args:
        config: batch size and token limits.
        folder: the variant's folder.
        data: the suite's folder.
        tasks: the suite's tasks.
        dimensions: Matryoshka dimensions to evaluate beside the variant's full one; longer ones are left out.
    """
    variant = Variant.load(folder)
    full = variant.dimensions
    lengths = sorted({full, *(length for length in dimensions if length < full)}, reverse=True)
    limits = [limit for limit in config.max_tokens if limit < variant.max_tokens]
    own = CellSettings(tuple(lengths), config.batch_size)
    planned = [(task, own) for task in tasks]
    for limit in limits:
        truncated = CellSettings((full,), config.batch_size, limit)
        planned += [(task, truncated) for task in tasks if task.type == TRUNCATED_TYPE]
    weights = manifest.read(folder).size
    if variant.kind in KINDS and not KINDS[variant.kind].multiplies:
        weights //= LOOKUP_SPEED
    requests = [
        CellRequest(
            variant=folder,
            data=data,
            task=task,
            settings=settings,
            digest=cell_digest(folder, variant.kind, data, task, settings),
            cost=float(weights * _count_bytes(data, task)),
        )
        for task, settings in planned
    ]
    return sorted(requests, key=lambda request: -request.cost)


def count_vector_bytes(requests: Sequence[CellRequest]) -> int:
    """Return about how many bytes of vectors some cells will write: those of every text of a retrieval task."""
    rows = {(request.data, request.task.name): request for request in requests if request.task.type == VECTORS_TYPE}
    counts = {key: _count_lines(request.data, request.task) for key, request in rows.items()}
    full = (request for request in requests if request.settings.max_tokens is None)
    return sum(
        counts.get((request.data, request.task.name), 0) * max(request.settings.dimensions) * FLOAT_BYTES
        for request in full
    )


def _count_lines(data: Path, task: TaskRecord) -> int:
    """Return the number of lines of a task's files, about one a text."""
    count = 0
    for name in task_files(data, task):
        with (data / name).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                count += block.count(b"\n")
    return count


def _count_bytes(data: Path, task: TaskRecord) -> int:
    """Return the size of a task's files, which are mostly text."""
    files = manifest.read(data).files
    return sum(files[name].size for name in task_files(data, task))
