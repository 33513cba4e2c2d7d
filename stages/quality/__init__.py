"""quality: every variant on every task at every Matryoshka dimension, by mteb, through the encoders that ship.

In: the catalogued variants, data/. Out: quality/
    scores.json                  variant -> dimension -> task -> {type, metric, main_score (0 to 1), samples, subsets?},
                                 or variant -> {"error": why}; the largest dimension is the variant's full one
    samples/VARIANT.json         dimension -> task -> subset -> {name: [one value a sample]}, ids and order by the task;
                                 {} for types that have no such values
    results/VARIANT/DIM/TASK.json  mteb's own TaskResult, without times and dates
    compatibility.json           retrieval task -> query variant -> index variant -> {recall, ndcg, overlap}_at_10
    floor.json                   task -> main_score of random token vectors (quality/floor.py)
Fails: 2 the suite is empty or unknown, 3 an input differs from its manifest, or mteb gives no finite score.
A variant whose encoder fails is recorded as such, and fails at the gate; the others go on.
"""

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, manifest, open_variant
from embed_foundry.errors import InputError

from stages.common.artifact import publish
from stages.common.config import Quality
from stages.common.progress import bar

SCORES = "scores.json"
FLOOR = "floor.json"
COMPATIBILITY = "compatibility.json"


def run(
    config: Quality,
    variants: Mapping[str, Path],
    baseline: str,
    dimensions: Sequence[int],
    data: Path,
    out: Path,
    threads: int,
    cache: Path,
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

    Raises:
        InputError: the suite is empty, or a task of it is unknown.
        IntegrityError: an input differs from its manifest, or a score is missing or not finite.
    """
    from stages.quality import cells, compatibility, floor

    inputs = {"data": data} | {f"variants/{name}": folder for name, folder in variants.items()}
    parameters = {"quality": config.model_dump(mode="json"), "dimensions": list(dimensions), "threads": threads}
    parameters["baseline"] = baseline
    with publish(out, stage="quality", parameters=parameters, inputs=inputs, libraries=cells.LIBRARIES) as work:
        records = json.loads((data / "tasks.json").read_text(encoding="utf-8"))
        if not records:
            raise InputError(f"{data}/tasks.json: lists no task; a suite without tasks measures nothing. Add one.")
        scores: dict[str, Any] = {}
        vectors: dict[str, dict[str, Path]] = {}  # retrieval task -> variant -> file
        cells_count = (len(variants) + 1) * len(records)  # and the floor's
        with tempfile.TemporaryDirectory() as scratch, bar("quality: cells", cells_count) as shown:
            for name, folder in variants.items():
                kept: dict[str, Path] = {}
                measured = _variant(config, folder, dimensions, data, threads, cache, records, kept, shown.update)
                scores[name] = _write(work, name, measured) if isinstance(measured, dict) else {"error": measured}
                for task, path in kept.items() if isinstance(measured, dict) else ():
                    vectors.setdefault(task, {})[name] = path
            noise = floor.write(variants[baseline], data, Path(scratch, floor.FLOOR))
            measured = _variant(config, noise, [], data, threads, cache, records, {}, shown.update)
            if isinstance(measured, str):
                raise IntegrityError(f"quality: the floor could not be measured: {measured}")
            levels = {task: next(iter(cell.scores.values()))["main_score"] for task, cell in measured.items()}
            (work / FLOOR).write_bytes(manifest.canonical(levels))
        pairs = {task: compatibility.matrix(files) for task, files in vectors.items()}
        (work / COMPATIBILITY).write_bytes(manifest.canonical(pairs))
        (work / SCORES).write_bytes(manifest.canonical(scores))
    return scores


def _variant(
    config: Quality,
    folder: Path,
    dimensions: Sequence[int],
    data: Path,
    threads: int,
    cache: Path,
    records: Sequence[Mapping[str, Any]],
    kept: dict[str, Path],
    step: Any,  # noqa: ANN401 - tqdm's update
) -> dict[str, Any] | str:
    """Return the variant's cells by task, from the cache where nothing changed, or why its encoder failed.

    `kept` receives where the vectors of retrieval tasks are.
    """
    from stages.quality import cells
    from stages.quality.adapter import Adapter

    encoder = adapter = None
    found: dict[str, Any] = {}
    try:
        for record in records:
            full = json.loads((folder / "variant.json").read_text(encoding="utf-8"))["dimensions"]
            lengths = sorted({full, *(length for length in dimensions if length < full)}, reverse=True)
            settings = {"dimensions": lengths, "threads": threads, "batch_size": config.batch_size}
            digest = cells.key(folder, data, record, settings)
            cell = cells.cached(cache, digest)
            if cell is None:
                if adapter is None:
                    encoder = open_variant(folder, threads)
                    adapter = Adapter(encoder, manifest.read(folder)["digest"], config.batch_size)
                with warnings.catch_warnings():
                    # Long documents are cut for all variants alike; mteb's and sklearn's remarks concern no score.
                    warnings.simplefilter("ignore")
                    cell = cells.measure(adapter, record, data, lengths, cells.vectors_of(cache, digest))
                cells.keep(cache, digest, cell)
            found[record["name"]] = cell
            if cell.vectors:
                kept[record["name"]] = cells.vectors_of(cache, digest)
            step()
    except IntegrityError as error:  # anything else is no fault of the variant: it ends the run
        return str(error)
    return found


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
