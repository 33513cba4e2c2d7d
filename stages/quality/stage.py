"""The quality stage: variants and tasks in, scores and per-sample values out."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, manifest
from embed_foundry.errors import InputError

from stages.common.config import Engine, Quality
from stages.common.contract.output import stage_output
from stages.common.contract.progress import bar

SCORES = "scores.json"
FLOOR = "floor.json"
SHORTER = "shorter.json"
COMPATIBILITY = "compatibility.json"
LOCAL = Engine(name="local")


def run(
    config: Quality,
    variants: Mapping[str, Path],
    baseline: str,
    dimensions: Sequence[int],
    data: Path,
    out: Path,
    threads: int,
    cache: Path,
    engine: Engine = LOCAL,
) -> dict[str, Any]:
    """Measure and return the content of scores.json.

    Args:
        config: how to encode.
        variants: name to folder of every catalogued variant.
        baseline: the variant whose tokenizer the floor takes.
        dimensions: Matryoshka dimensions to measure beside each variant's full one.
        data: the suite's folder.
        out: the quality folder.
        threads: CPU threads of the encoders.
        cache: where finished cells are kept between runs.
        engine: where cells are measured; the result does not depend on it.

    Raises:
        InputError: the suite is empty, or a task of it is unknown; a cluster's workers are not like this machine.
        IntegrityError: an input differs from its manifest, or a score is missing or not finite.
        RetryableError: no cluster answers, or it lost its workers.
    """
    from stages.quality import cells, compatibility, floor

    inputs = {"data": data} | {f"variants/{name}": folder for name, folder in variants.items()}
    parameters = {"quality": config.model_dump(mode="json"), "dimensions": list(dimensions), "threads": threads}
    parameters["baseline"] = baseline
    with stage_output(out, stage="quality", parameters=parameters, inputs=inputs, libraries=cells.LIBRARIES) as work:
        records = json.loads((data / "tasks.json").read_text(encoding="utf-8"))
        if not records:
            raise InputError(f"{data}/tasks.json: lists no task; a suite without tasks measures nothing. Add one.")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            noise = floor.write(variants[baseline], data, Path(scratch, floor.FLOOR))
            cuts = {folder: list(dimensions) for folder in variants.values()} | {noise: []}
            found = _measured(config, cuts, data, records, threads, cache, engine)
        levels = found[noise]
        if isinstance(levels, str):
            raise IntegrityError(f"quality: the floor could not be measured: {levels}")
        scores: dict[str, Any] = {}
        vectors: dict[str, dict[str, Path]] = {}  # retrieval task -> variant -> file
        shorter: dict[str, dict[str, dict[str, float]]] = {}  # task -> variant -> tokens -> score
        for name, folder in variants.items():
            measured = found[folder]
            if isinstance(measured, str):
                scores[name] = {"error": measured}
                continue
            scores[name] = _write(work, name, {job.task: cell for job, cell in measured if job.max_tokens is None})
            for job, cell in measured:
                if job.max_tokens is not None:
                    at = shorter.setdefault(job.task, {}).setdefault(name, {})
                    at[str(job.max_tokens)] = _main_score(cell)
                elif cell.vectors:
                    vectors.setdefault(job.task, {})[name] = cells.vectors_of(cache, job.digest)
        level = {job.task: _main_score(cell) for job, cell in levels if job.max_tokens is None}
        pairs = {task: compatibility.matrix(files) for task, files in vectors.items()}
        (work / SHORTER).write_bytes(manifest.canonical(shorter))
        (work / FLOOR).write_bytes(manifest.canonical(level))
        (work / COMPATIBILITY).write_bytes(manifest.canonical(pairs))
        (work / SCORES).write_bytes(manifest.canonical(scores))
    return scores


def _measured(
    config: Quality,
    cuts: Mapping[Path, Sequence[int]],
    data: Path,
    records: Sequence[Mapping[str, Any]],
    threads: int,
    cache: Path,
    engine: Engine,
) -> dict[Path, list[tuple[Any, Any]] | str]:
    """Return each variant folder's jobs with their cells, from the cache where nothing changed, or why it failed."""
    from stages.quality import cells, cluster, jobs

    plans = {folder: jobs.plan(config, folder, data, records, at, threads) for folder, at in cuts.items()}
    every = [job for planned in plans.values() for job in planned]
    done: dict[str, Any] = {}
    with bar("quality: cells", len(every)) as shown:
        for job in every:
            if cell := cells.cached(cache, job.digest):
                done[job.digest] = cell
                shown.update()
        todo = [job for job in every if job.digest not in done]
        answers = cluster.measure(engine, todo, cache) if engine.name == "dask" else jobs.measure(todo, cache)
        for job, outcome in answers:
            if not isinstance(outcome, str):
                cells.keep(cache, job.digest, outcome)
            done[job.digest] = outcome
            shown.update()
    result: dict[Path, list[tuple[Any, Any]] | str] = {}
    for folder, planned in plans.items():
        failure = next((why for job in planned if isinstance(why := done.get(job.digest), str)), None)
        result[folder] = failure or [(job, done[job.digest]) for job in planned]
    return result


def _main_score(cell: Any) -> float:  # noqa: ANN401 - cells.Cell; its module is heavy
    """Return a cell's main score at its full dimension, which comes first."""
    return float(next(iter(cell.scores.values()))["main_score"])


def _write(work: Path, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Write a variant's samples and mteb results; return its scores by dimension and task."""
    lengths = sorted({length for cell in found.values() for length in cell.scores}, key=int)
    path = work / "samples" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    by_length = {length: {task: cell.samples[length] for task, cell in found.items()} for length in lengths}
    path.write_bytes(manifest.canonical(by_length))
    for task, cell in found.items():
        for length in lengths:
            target = work / "results" / name / length / f"{task}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(manifest.canonical(cell.results[length]))
    return {length: {task: cell.scores[length] for task, cell in found.items()} for length in lengths}
