"""A cell: one variant on one task at all dimensions. The request, its content, its result."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from stages.common.records.base import Failure, Record
from stages.common.records.scores import TaskSamples, TaskScore
from stages.common.records.tasks import TaskRecord


@dataclass(frozen=True)
class CellSettings:
    """How a cell is evaluated.

    Attributes:
        dimensions: vector lengths, descending; the first is the variant's full one.
        batch_size: texts per call of the encoder.
        max_tokens: texts are truncated to this many tokens; None is the variant's own limit.
    """

    dimensions: tuple[int, ...]
    batch_size: int
    max_tokens: int | None = None


@dataclass(frozen=True)
class CellRequest:
    """One cell to evaluate.

    Attributes:
        variant: the variant's folder.
        data: the suite's folder.
        task: the task.
        settings: how to evaluate it.
        digest: of everything that the cell's content depends on (`cell_key.cell_digest`).
        cost: how long it takes, roughly, in units that only compare cells: bytes of text times bytes of weights.
    """

    variant: Path
    data: Path
    task: TaskRecord
    settings: CellSettings
    digest: str
    cost: float = 1.0


class Cell(Record):
    """A variant's results on one task.

    Attributes:
        scores: dimension -> score.
        samples: dimension -> subset -> column -> one value per sample.
        results: dimension -> mteb's own TaskResult, without times and dates.
        vectors: SHA-256 of the file of full vectors kept beside a retrieval task's cell; "" for other tasks.
    """

    scores: dict[int, TaskScore]
    samples: dict[int, TaskSamples]
    results: dict[int, dict[str, JsonValue]]
    vectors: str = ""

    @property
    def main_score(self) -> float:
        """The main score at the full dimension."""
        return self.scores[max(self.scores)].main_score


@dataclass(frozen=True)
class CellResult:
    """How a request ended: with a cell, or with the variant's failure."""

    request: CellRequest
    outcome: Cell | Failure
