"""The quality stage: variants and tasks in, scores and per-sample values out."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from embed_foundry import IntegrityError
from embed_foundry.errors import InputError
from embed_foundry.output.folder import require_space
from embed_foundry.progress import share_bar

from stages.common.config import Engine, Quality
from stages.common.contract.output import stage_output
from stages.common.records.base import Failure
from stages.common.records.scores import Compatibility, Floor, Scores, TruncatedScores
from stages.common.records.tasks import load_tasks
from stages.quality.cell import Cell, CellRequest
from stages.quality.cell_cache import CellCache
from stages.quality.cell_key import LIBRARIES
from stages.quality.compatibility import score_mixed_indexes
from stages.quality.dask_engine import evaluate_on_cluster
from stages.quality.floor import FLOOR, estimate_floor_bytes, write_floor
from stages.quality.local_engine import evaluate_locally
from stages.quality.plan import count_vector_bytes, plan_cells
from stages.quality.variant_cells import VariantCells, gather_cells

LOCAL = Engine(name="local")


def run(
    config: Quality,
    variants: Mapping[str, Path],
    baseline: str,
    dimensions: Sequence[int],
    data: Path,
    out: Path,
    cache: Path,
    engine: Engine = LOCAL,
) -> Scores:
    """Evaluate every variant on every task, write the quality folder and return the scores.

    Args:
        config: batch size and token limits.
        variants: name -> folder of every catalogued variant.
        baseline: the variant whose tokenizer the floor takes.
        dimensions: Matryoshka dimensions to evaluate beside each variant's full one.
        data: the suite's folder.
        out: the quality folder.
        cache: where finished cells are kept between runs.
        engine: where cells are evaluated; the result does not depend on it.

    Raises:
        InputError: the suite is empty, or one of its tasks is unknown; a cluster's workers are not like this machine.
        IntegrityError: an input differs from its manifest, or a score is missing or not finite.
        RetryableError: no cluster answers, or it lost its workers.
    """
    inputs = {"data": data} | {f"variants/{name}": folder for name, folder in variants.items()}
    parameters = {
        "quality": config.model_dump(mode="json"),
        "dimensions": list(dimensions),
        "baseline": baseline,
    }
    with stage_output(out, stage="quality", parameters=parameters, inputs=inputs, libraries=LIBRARIES) as work:
        tasks = load_tasks(data)
        if not tasks:
            raise InputError(f"{data}/tasks.json: lists no task; there is nothing to evaluate. Add one to the suite.")
        cache.mkdir(parents=True, exist_ok=True)
        cell_cache = CellCache(cache)
        plans = {name: plan_cells(config, folder, data, tasks, dimensions) for name, folder in variants.items()}
        missing = [request for plan in plans.values() for request in plan if not cell_cache.load(request.digest)]
        require_space(cache, estimate_floor_bytes(variants[baseline]) + count_vector_bytes(missing))
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            floor_folder = write_floor(variants[baseline], data, Path(scratch, FLOOR))
            floor_plan = plan_cells(config, floor_folder, data, tasks, [])
            # The slowest variants first: the quick cells at the end leave no process with nothing to do for long.
            ordered = sorted((*plans.values(), floor_plan), key=lambda plan: -sum(request.cost for request in plan))
            outcomes = _load_or_evaluate([request for plan in ordered for request in plan], cell_cache, engine)
        floor = gather_cells(floor_plan, outcomes, cell_cache)
        if isinstance(floor, Failure):
            raise IntegrityError(f"quality: the floor could not be evaluated: {floor.error}")
        cells = {name: gather_cells(plan, outcomes, cell_cache) for name, plan in plans.items()}
        scores = _write_variants(work, cells)
        (work / Floor.FILE).write_bytes(Floor(floor.main_scores).dump())
    return scores


def _load_or_evaluate(requests: Sequence[CellRequest], cache: CellCache, engine: Engine) -> dict[str, Cell | Failure]:
    """Return digest -> how each cell ended; only cells that the cache does not hold are evaluated."""
    cached = {request.digest: cache.load(request.digest) for request in requests}
    outcomes: dict[str, Cell | Failure] = {digest: cell for digest, cell in cached.items() if cell}
    missing = [request for request in requests if request.digest not in outcomes]
    with share_bar("quality: cells", sum(request.cost for request in missing)) as progress:
        results = (
            evaluate_on_cluster(engine, missing, cache)
            if engine.name == "dask"
            else evaluate_locally(missing, cache, engine.processes)
        )
        for result in results:
            if isinstance(result.outcome, Cell):
                cache.store(result.request.digest, result.outcome)
            outcomes[result.request.digest] = result.outcome
            progress.set_description_str(f"quality: {len(outcomes)} of {len(requests)} cells", refresh=False)
            progress.update(result.request.cost)
    return outcomes


def _write_variants(work: Path, variants: Mapping[str, VariantCells | Failure]) -> Scores:
    """Write what was evaluated of the variants, and return their scores."""
    evaluated = {name: cells for name, cells in variants.items() if isinstance(cells, VariantCells)}
    truncated: dict[str, dict[str, dict[int, float]]] = {}
    vectors: dict[str, dict[str, Path]] = {}  # retrieval task -> variant -> file
    for name, cells in evaluated.items():
        cells.write(work, name)
        for task, by_tokens in cells.truncated.items():
            truncated.setdefault(task, {})[name] = {tokens: cell.main_score for tokens, cell in by_tokens.items()}
        for task, path in cells.vectors.items():
            vectors.setdefault(task, {})[name] = path
    mixed = {task: score_mixed_indexes(files) for task, files in vectors.items()}
    scores = Scores({name: cells if isinstance(cells, Failure) else cells.scores for name, cells in variants.items()})
    (work / TruncatedScores.FILE).write_bytes(TruncatedScores(truncated).dump())
    (work / Compatibility.FILE).write_bytes(Compatibility(mixed).dump())
    (work / Scores.FILE).write_bytes(scores.dump())
    return scores
