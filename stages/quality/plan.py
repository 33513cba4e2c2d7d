"""Which cells to evaluate: every task once, and retrieval tasks once more at each lower limit of tokens."""

from collections.abc import Sequence
from pathlib import Path

from embed_foundry import Variant

from stages.common.config import Quality
from stages.common.records.tasks import TaskRecord
from stages.quality.cell import CellRequest, CellSettings
from stages.quality.cell_key import cell_digest

# The type of tasks that are evaluated on truncated texts too: their texts are the long ones.
TRUNCATED_TYPE = "Retrieval"


def plan_cells(
    config: Quality, folder: Path, data: Path, tasks: Sequence[TaskRecord], dimensions: Sequence[int], threads: int
) -> list[CellRequest]:
    """Return the cells of one variant, those at its own token limit first.

    Args:
        config: batch size and token limits.
        folder: the variant's folder.
        data: the suite's folder.
        tasks: the suite's tasks.
        dimensions: Matryoshka dimensions to evaluate beside the variant's full one; longer ones are left out.
        threads: CPU threads of the encoder.
    """
    variant = Variant.load(folder)
    full = variant.dimensions
    lengths = sorted({full, *(length for length in dimensions if length < full)}, reverse=True)
    limits = [limit for limit in config.max_tokens if limit < variant.max_tokens]
    own = CellSettings(tuple(lengths), threads, config.batch_size)
    planned = [(task, own) for task in tasks]
    for limit in limits:
        truncated = CellSettings((full,), threads, config.batch_size, limit)
        planned += [(task, truncated) for task in tasks if task.type == TRUNCATED_TYPE]
    return [
        CellRequest(folder, data, task, settings, cell_digest(folder, variant.kind, data, task, settings))
        for task, settings in planned
    ]
