"""One cell = one variant on one task at all dimensions; finished cells are kept by the digest of all they depend on."""

import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, manifest
from embed_foundry.kinds import DISTRIBUTIONS, KINDS

from stages.common.contract import tables
from stages.common.contract.output import library_versions
from stages.common.sources import suite_files
from stages.quality import compatibility, samples, tasks

# Distributions that can change any score: what mteb scores with.
SCORING = ("mteb", "numpy", "pytrec-eval-terrier", "scikit-learn", "scipy", "torch")
# What is recorded of a run. A cell's key has its own kind's only: a new OpenVINO measures OpenVINO variants again.
LIBRARIES = tuple(sorted({*SCORING, *DISTRIBUTIONS}))
# What mteb notes of a run that is no part of its result.
_PASSING = ("evaluation_time", "date", "kg_co2_emissions", "evaluation_phases")


@dataclass(frozen=True)
class Cell:
    """A variant's results on one task.

    Attributes:
        scores: dimension -> {type, metric, main_score, samples, subsets}.
        samples: dimension -> subset -> name -> one value a sample.
        results: dimension -> mteb's TaskResult, without times and dates.
        vectors: sha256 of the file of full vectors kept beside a retrieval task's cell; "" for other tasks.
    """

    scores: dict[str, Any]
    samples: dict[str, Any]
    results: dict[str, Any]
    vectors: str = ""


def key(variant: Path, kind: str, data: Path, record: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return the digest of everything that a cell's content depends on.

    Args:
        variant: the variant's folder.
        kind: its kind; of an unknown one, every library counts.
        data: the suite's folder.
        record: the task's entry of tasks.json.
        settings: dimensions, threads, batch size.
    """
    parts = {
        "variant": manifest.read(variant).digest,
        "task": dict(record),
        "files": files_of(data, record),
        "settings": dict(settings),
        "libraries": library_versions([*{*SCORING, *(KINDS[kind].distributions if kind in KINDS else DISTRIBUTIONS)}]),
        "code": code(),
    }
    return hashlib.sha256(manifest.canonical(parts)).hexdigest()


def files_of(data: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Return the files of one task by their names in the suite's folder, with their SHA-256."""
    hashes = manifest.read(data).hashes
    return {name: digest for name, digest in hashes.items() if name.startswith(f"{record['name']}/")}


def cached(cache: Path, digest: str) -> Cell | None:
    """Return a kept cell, or None if there is none or its bytes are not what was written."""
    try:
        check, _, body = (cache / f"{digest}.json").read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest() == check.decode():
            cell = Cell(**json.loads(body))
            if not cell.vectors or manifest.sha256(vectors_of(cache, digest)) == cell.vectors:
                return cell
    except (OSError, ValueError, TypeError):
        pass
    return None


def vectors_of(cache: Path, digest: str) -> Path:
    """Return where a retrieval cell's vectors are kept."""
    return cache / f"{digest}.npz"


def keep(cache: Path, digest: str, cell: Cell) -> None:
    """Write a cell with its checksum, at once or not at all."""
    cache.mkdir(parents=True, exist_ok=True)
    body = manifest.canonical(vars(cell))
    with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
        file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    os.replace(file.name, cache / f"{digest}.json")  # noqa: PTH105 - atomic on every platform


def measure(
    adapter: Any,  # noqa: ANN401
    record: Mapping[str, Any],
    data: Path,
    dimensions: Sequence[int],
    vectors: Path,
) -> Cell:
    """Run one task at every dimension. The result depends on nothing that was measured before.

    Args:
        adapter: the variant for mteb (quality.adapter.Adapter).
        record: the task's entry of tasks.json.
        data: the suite's folder.
        dimensions: vector lengths, descending; the first is the full one.
        vectors: where a retrieval task's full vectors are written.

    Raises:
        IntegrityError: the encoder fails, or mteb's score is missing or not finite.
    """
    import datasets
    import mteb
    from threadpoolctl import threadpool_limits

    datasets.disable_progress_bars()
    logging.getLogger("mteb").setLevel(logging.ERROR)  # it recommends newer versions of tasks
    cell = Cell({}, {}, {})
    adapter.forget()
    for dimension in dimensions:
        task = tasks.task(record, data / record["name"])  # anew: clustering draws from the task's random state
        adapter.start(dimension)
        # mteb's classifiers and clusters are small: on one thread they take a tenth of the time, and their sums do not
        # depend on how threads split them. The adapter gives the encoder its threads back.
        with tempfile.TemporaryDirectory() as predictions, threadpool_limits(1):
            found = mteb.evaluate(
                adapter, task, cache=None, co2_tracker=False, prediction_folder=predictions, show_progress_bar=False
            )
            result = found.task_results[0].model_dump(mode="json")
            by_split = {
                split: {row["hf_subset"]: row for row in rows} for split, rows in sorted(result["scores"].items())
            }
            summary = _summary(record, by_split)
            drawn = samples.values(task, Path(predictions), by_split)
        at = str(dimension)
        cell.samples[at] = drawn
        cell.results[at] = {name: value for name, value in result.items() if name not in _PASSING}
        cell.scores[at] = summary | {"samples": samples.count(task, drawn)}
        if record["type"] == "Retrieval" and dimension == dimensions[0] and compatibility.save(vectors, task, adapter):
            cell = replace(cell, vectors=manifest.sha256(vectors))
    return cell


def _summary(record: Mapping[str, Any], by_split: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a task's entry of scores.json: as mteb, the mean over subsets and splits alike."""
    splits = record.get("splits", ["test"])
    found = {
        name: [by_split[split].get(name, {}).get("main_score") for split in splits] for name in record["languages"]
    }
    # pydantic writes NaN as None: vectors that are all alike have no rank correlation.
    subsets = {
        name: sum(scores) / len(scores)
        for name, scores in sorted(found.items())
        if all(score is not None and math.isfinite(score) for score in scores)
    }
    if set(subsets) != set(record["languages"]):
        raise IntegrityError(
            f"task {record['name']}: mteb's {record['main_score']} is {found}, expected a finite number for each of "
            f"{sorted(record['languages'])}. The variant's vectors are all alike, or the task's files changed."
        )
    summary = {
        "type": record["type"],
        "metric": record["main_score"],
        "main_score": round(sum(subsets.values()) / len(subsets), 6),
    }
    return summary | (
        {"subsets": {name: round(score, 6) for name, score in subsets.items()}} if len(subsets) > 1 else {}
    )


def code() -> str:
    """Return a digest of this room, of what reads task files, and of the encoders: another way is another cell."""
    import embed_foundry

    folders = (Path(__file__).parent, Path(suite_files.__file__).parent, Path(embed_foundry.__file__).parent)
    files = sorted([Path(tables.__file__), *(path for folder in folders for path in folder.glob("*.py"))])
    return hashlib.sha256("".join(manifest.sha256(path) for path in files).encode()).hexdigest()
