"""Cells to measure, and the engine that measures them in this process, one after the other."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, manifest, open_variant

from stages.quality import cells
from stages.quality.adapter import Adapter
from stages.quality.cells import Cell


@dataclass(frozen=True)
class Job:
    """One cell to measure.

    Attributes:
        folder: the variant's folder.
        data: the suite's folder.
        record: the task's entry of tasks.json.
        dimensions: vector lengths, descending; the first is the full one.
        threads: CPU threads of the encoder.
        batch_size: texts per call of the encoder.
        digest: of everything that the cell's content depends on (cells.key).
    """

    folder: Path
    data: Path
    record: Mapping[str, Any]
    dimensions: tuple[int, ...]
    threads: int
    batch_size: int
    digest: str


# A job with its cell, or why the variant's encoder failed. The vectors of a retrieval task are written into the cache.
Outcome = tuple[Job, Cell | str]


def plan(
    folder: Path,
    data: Path,
    records: Sequence[Mapping[str, Any]],
    cuts: Sequence[int],
    threads: int,
    batch_size: int,
) -> list[Job]:
    """Return one variant's jobs, a task each.

    Args:
        folder: the variant's folder.
        data: the suite's folder.
        records: the entries of tasks.json.
        cuts: Matryoshka dimensions to measure beside the variant's full one; longer ones are left out.
        threads: CPU threads of the encoder.
        batch_size: texts per call of the encoder.
    """
    facts = json.loads((folder / "variant.json").read_text(encoding="utf-8"))
    full = facts["dimensions"]
    lengths = sorted({full, *(length for length in cuts if length < full)}, reverse=True)
    settings = {"dimensions": lengths, "threads": threads, "batch_size": batch_size}
    return [
        Job(
            folder,
            data,
            record,
            tuple(lengths),
            threads,
            batch_size,
            cells.key(folder, facts["kind"], data, record, settings),
        )
        for record in records
    ]


def measure(todo: Sequence[Job], cache: Path) -> Iterator[Outcome]:
    """Measure in this process, in order; a failed variant's further jobs are left out.

    Args:
        todo: the cells.
        cache: where vectors of retrieval tasks are written.
    """
    adapter, failed = None, set()
    for job in todo:
        if job.folder in failed:
            continue
        try:
            if adapter is None or adapter.encoder.folder != job.folder:
                adapter = opened(job)
            yield job, measured(job, adapter, cells.vectors_of(cache, job.digest))
        except IntegrityError as error:  # anything else is no fault of the variant: it ends the run
            failed.add(job.folder)
            yield job, str(error)


def opened(job: Job) -> Adapter:
    """Return the job's variant for mteb.

    Raises:
        IntegrityError: the variant cannot be opened.
        InputError: its kind or library is unknown here.
    """
    encoder = open_variant(job.folder, job.threads)
    return Adapter(encoder, manifest.read(job.folder)["digest"], job.batch_size)


def measured(job: Job, adapter: Adapter, vectors: Path) -> Cell:
    """Measure one cell; raises as `cells.measure`."""
    with warnings.catch_warnings():
        # Long documents are cut for all variants alike; mteb's and sklearn's remarks concern no score.
        warnings.simplefilter("ignore")
        return cells.measure(adapter, job.record, job.data, job.dimensions, vectors)
