"""Cells to measure, and the engine that measures them in this process, one after the other."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_foundry import IntegrityError, manifest, open_variant

from stages.common.config import Quality
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
        max_tokens: texts are cut to so many tokens; None is the variant's own limit.
        digest: of everything that the cell's content depends on (cells.key).
    """

    folder: Path
    data: Path
    record: Mapping[str, Any]
    dimensions: tuple[int, ...]
    threads: int
    batch_size: int
    max_tokens: int | None
    digest: str

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.record["name"])


# The type of tasks whose texts are long, and their vectors asked for alone.
CUT = "Retrieval"
# A job with its cell, or why the variant's encoder failed. The vectors of a retrieval task are written into the cache.
Outcome = tuple[Job, Cell | str]


def plan(
    config: Quality,
    folder: Path,
    data: Path,
    records: Sequence[Mapping[str, Any]],
    cuts: Sequence[int],
    threads: int,
) -> list[Job]:
    """Return one variant's jobs: a task each, and retrieval tasks once more at each lower limit of tokens.

    Args:
        config: batch size and limits of tokens.
        folder: the variant's folder.
        data: the suite's folder.
        records: the entries of tasks.json.
        cuts: Matryoshka dimensions to measure beside the variant's full one; longer ones are left out.
        threads: CPU threads of the encoder.
    """
    facts = json.loads((folder / "variant.json").read_text(encoding="utf-8"))
    full = facts["dimensions"]
    lengths = sorted({full, *(length for length in cuts if length < full)}, reverse=True)
    limits = [limit for limit in config.max_tokens if limit < facts["max_tokens"]]
    planned: list[tuple[Mapping[str, Any], list[int], int | None]] = [(record, lengths, None) for record in records]
    planned += [(record, [full], limit) for limit in limits for record in records if record["type"] == CUT]

    def job(record: Mapping[str, Any], dimensions: list[int], limit: int | None) -> Job:
        settings: dict[str, Any] = {"dimensions": dimensions, "threads": threads, "batch_size": config.batch_size}
        settings |= {} if limit is None else {"max_tokens": limit}
        digest = cells.key(folder, facts["kind"], data, record, settings)
        return Job(folder, data, record, tuple(dimensions), threads, config.batch_size, limit, digest)

    return [job(*one) for one in planned]


def measure(todo: Sequence[Job], cache: Path) -> Iterator[Outcome]:
    """Measure in this process, in order; a failed variant's further jobs are left out.

    Args:
        todo: the cells.
        cache: where vectors of retrieval tasks are written.
    """
    is_open: dict[tuple[Path, int | None], Adapter] = {}
    failed = set()
    for job in todo:
        if job.folder in failed:
            continue
        try:
            wanted = (job.folder, job.max_tokens)
            if wanted not in is_open:
                is_open.clear()  # before the next one is opened: two may not fit
                is_open[wanted] = opened(job)
            yield job, measured(job, is_open[wanted], cells.vectors_of(cache, job.digest))
        except IntegrityError as error:  # anything else is no fault of the variant: it ends the run
            failed.add(job.folder)
            yield job, str(error)


def opened(job: Job) -> Adapter:
    """Return the job's variant for mteb.

    Raises:
        IntegrityError: the variant cannot be opened.
        InputError: its kind or library is unknown here.
    """
    encoder = open_variant(job.folder, job.threads, job.max_tokens)
    return Adapter(encoder, manifest.read(job.folder).digest, job.batch_size)


def measured(job: Job, adapter: Adapter, vectors: Path) -> Cell:
    """Measure one cell; raises as `cells.measure`."""
    with warnings.catch_warnings():
        # Long documents are cut for all variants alike; mteb's and sklearn's remarks concern no score.
        warnings.simplefilter("ignore")
        return cells.measure(adapter, job.record, job.data, job.dimensions, vectors)
