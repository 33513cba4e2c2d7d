"""One variant's finished cells, gathered into the stage's records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embed_foundry import manifest

from stages.common.records.base import Failure
from stages.common.records.scores import Samples, VariantScores
from stages.quality.cell import Cell, CellRequest
from stages.quality.cell_cache import CellCache

RESULTS = "results"


@dataclass(frozen=True)
class VariantCells:
    """One variant's finished cells.

    Attributes:
        full: task -> the cell at the variant's own token limit.
        truncated: retrieval task -> tokens that texts were truncated to -> cell.
        vectors: retrieval task -> the file of its full vectors.
    """

    full: dict[str, Cell] = field(default_factory=dict)
    truncated: dict[str, dict[int, Cell]] = field(default_factory=dict)
    vectors: dict[str, Path] = field(default_factory=dict)

    @property
    def main_scores(self) -> dict[str, float]:
        """Task -> main score at the full dimension and the variant's own token limit."""
        return {task: cell.main_score for task, cell in self.full.items()}

    @property
    def scores(self) -> VariantScores:
        """Every score, by dimension and task."""
        return VariantScores({d: {task: cell.scores[d] for task, cell in self.full.items()} for d in self._dimensions})

    @property
    def samples(self) -> Samples:
        """Per-sample values, by dimension and task."""
        return Samples({d: {task: cell.samples[d] for task, cell in self.full.items()} for d in self._dimensions})

    @property
    def _dimensions(self) -> list[int]:
        return sorted({dimension for cell in self.full.values() for dimension in cell.scores})

    def write(self, work: Path, name: str) -> None:
        """Write samples/NAME.json, and mteb's own TaskResults as results/NAME/DIMENSION/TASK.json."""
        samples = work / Samples.FOLDER / f"{name}.json"
        samples.parent.mkdir(exist_ok=True)
        samples.write_bytes(self.samples.dump())
        for task, cell in self.full.items():
            for dimension, result in cell.results.items():
                path = work / RESULTS / name / str(dimension) / f"{task}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(manifest.canonical(result))


def gather_cells(
    requests: Sequence[CellRequest], outcomes: Mapping[str, Cell | Failure], cache: CellCache
) -> VariantCells | Failure:
    """Return one variant's cells, or its first failure.

    Args:
        requests: the variant's cells, in the order in which they were started.
        outcomes: digest -> how the cell ended; after a failure, later cells of a variant may be missing.
        cache: where vectors of retrieval tasks are.
    """
    cells = VariantCells()
    for request in requests:
        outcome = outcomes[request.digest]
        if isinstance(outcome, Failure):
            return outcome
        if request.settings.max_tokens is not None:
            cells.truncated.setdefault(request.task.name, {})[request.settings.max_tokens] = outcome
            continue
        cells.full[request.task.name] = outcome
        if outcome.vectors:
            cells.vectors[request.task.name] = cache.vectors_path(request.digest)
    return cells
