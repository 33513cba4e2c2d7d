"""Evaluating one cell: mteb's task on the runtime's encoder, at every dimension."""

import logging
import math
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import Encoder, IntegrityError, manifest, open_variant
from pydantic import JsonValue
from threadpoolctl import threadpool_limits

from stages.common.records.scores import TaskSamples, TaskScore
from stages.common.records.tasks import TaskRecord
from stages.common.sources.suite_files import MtebTask
from stages.quality import samples
from stages.quality.cell import Cell, CellRequest
from stages.quality.compatibility import save_vectors
from stages.quality.mteb_types import SplitScores, SubsetScores
from stages.quality.tasks import load_task

if TYPE_CHECKING:
    from stages.quality.mteb_encoder import MtebEncoder

# CPU threads of an encoder, and of mteb's classifiers and clusters: sums depend on how threads split them, and cells
# that need the same machine keep all its CPUs busy beside each other.
THREADS = 1
# What mteb records of a run beside its result.
RUN_DETAILS = {"evaluation_time", "date", "kg_co2_emissions", "evaluation_phases"}


class EncoderSlot:
    """Holds one open encoder: the last one is dropped before the next is opened, because two may not fit in memory."""

    def __init__(self) -> None:
        self._key: tuple[str, int | None] | None = None
        self._encoder: Encoder | None = None

    def open(self, request: CellRequest) -> Encoder:
        """Return the encoder of a request, which stays open for further requests of the same variant.

        Raises:
            IntegrityError: the variant cannot be opened.
            InputError: its kind or library is unknown here.
        """
        settings = request.settings
        key = (manifest.read(request.variant).digest, settings.max_tokens)
        if self._encoder is None or self._key != key:
            self._encoder = None
            self._encoder = open_variant(request.variant, THREADS, settings.max_tokens)
            self._key = key
        return self._encoder


def evaluate_cell(request: CellRequest, encoder: Encoder, vectors: Path) -> Cell:
    """Run one task at every dimension. The cell depends on nothing that was evaluated before.

    Args:
        request: the cell.
        encoder: its variant's encoder.
        vectors: where a retrieval task's full vectors are written.

    Raises:
        IntegrityError: the encoder fails, or mteb's score is missing or not finite.
        InputError: a file of the task is missing, or its type is unknown.
    """
    from stages.quality.mteb_encoder import MtebEncoder  # mteb takes seconds to import

    dimensions = request.settings.dimensions
    mteb_encoder = MtebEncoder(encoder, manifest.read(request.variant).digest, request.settings.batch_size)
    scores: dict[int, TaskScore] = {}
    values: dict[int, TaskSamples] = {}
    results: dict[int, dict[str, JsonValue]] = {}
    digest = ""
    # Long documents are truncated for all variants alike; mteb's and sklearn's remarks concern no score.
    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as scratch:
        for dimension in dimensions:
            # A new task each time: clustering consumes the task's random state.
            task = load_task(request.task, request.data / request.task.name)
            mteb_encoder.start(dimension)
            predictions = Path(scratch, str(dimension))
            predictions.mkdir()
            try:
                result, split_scores = _run_mteb(mteb_encoder, task, predictions)
            except IntegrityError as error:
                raise IntegrityError(f"task {request.task.name}, {dimension} dimensions: {error}") from None
            values[dimension] = samples.read_samples(task, predictions, split_scores)
            results[dimension] = {name: value for name, value in result.items() if name not in RUN_DETAILS}
            scores[dimension] = _task_score(request.task, split_scores, samples.count_samples(task, values[dimension]))
            full = dimension == dimensions[0]
            if request.task.type == "Retrieval" and full and save_vectors(vectors, task, mteb_encoder):
                digest = manifest.sha256(vectors)
    return Cell(scores=scores, samples=values, results=results, vectors=digest)


def _run_mteb(
    encoder: "MtebEncoder", task: MtebTask, predictions: Path
) -> tuple[dict[str, JsonValue], dict[str, dict[str, SubsetScores]]]:
    """Return mteb's TaskResult as JSON, and its scores as split -> subset -> scores; write its predictions."""
    import datasets
    import mteb

    datasets.disable_progress_bars()
    logging.getLogger("mteb").setLevel(logging.ERROR)  # it recommends newer versions of tasks
    with threadpool_limits(THREADS):
        evaluated = mteb.evaluate(
            encoder, task, cache=None, co2_tracker=False, prediction_folder=predictions, show_progress_bar=False
        )
    result = evaluated.task_results[0].model_dump(mode="json")
    scores = {split: {row["hf_subset"]: row for row in rows} for split, rows in sorted(result["scores"].items())}
    return result, scores


def _task_score(task: TaskRecord, scores: SplitScores, samples: int) -> TaskScore:
    """Return a task's score: the mean over subsets and splits alike, as mteb takes it."""
    main_scores: Mapping[str, list[float | None]] = {
        subset: [scores[split].get(subset, {}).get("main_score") for split in task.evaluation_splits]
        for subset in task.languages
    }
    # pydantic writes NaN as None: vectors that are all alike have no rank correlation.
    finite = {
        subset: [score for score in values if score is not None and math.isfinite(score)]
        for subset, values in sorted(main_scores.items())
    }
    if any(len(finite[subset]) != len(values) for subset, values in main_scores.items()):
        raise IntegrityError(
            f"task {task.name}: mteb's {task.main_score} is {main_scores}, expected a finite number for each of "
            f"{sorted(task.languages)}. The variant's vectors are all alike, or the task's files changed."
        )
    subsets = {subset: sum(values) / len(values) for subset, values in finite.items()}
    return TaskScore(
        type=task.type,
        metric=task.main_score,
        main_score=round(sum(subsets.values()) / len(subsets), 6),
        samples=samples,
        subsets={subset: round(score, 6) for subset, score in subsets.items()} if len(subsets) > 1 else None,
    )
