"""Graded similarity as mteb tasks: word pairs and short news documents judged by people."""

from pathlib import Path

from stages.common.contract.tables import csv_file
from stages.common.records.tasks import TaskRecord
from stages.common.sources.similarity import NEWS, WORDS, pairs


def write(work: Path) -> list[TaskRecord]:
    """Write the pairs of stages/common/sources/similarity.py."""
    for name, rows in pairs().items():
        csv_file(work / name / "test.csv", ("sentence1", "sentence2", "score"), rows)
    return [
        _record(WORDS, "353 word pairs.", "https://aclanthology.org/N09-1003"),
        _record(NEWS, "1,225 pairs of 50 news documents.", "https://escholarship.org/uc/item/48g155nq"),
    ]


def _record(name: str, description: str, reference: str) -> TaskRecord:
    return TaskRecord(
        name=name,
        type="STS",
        description=f"Similarity as people judged it: {description}",
        main_score="cosine_spearman",
        languages={"default": ["eng-Latn"]},
        license="not specified",
        reference=reference,
        package="gensim",
    )
