"""Graded similarity as mteb tasks: word pairs and short news documents judged by people."""

from pathlib import Path

from stages.common.similarity import NEWS, WORDS, pairs
from stages.common.tables import csv_file
from stages.data import Record


def write(work: Path) -> list[Record]:
    """Write the pairs of stages/common/similarity.py."""
    for name, rows in pairs().items():
        csv_file(work / name / "test.csv", ("sentence1", "sentence2", "score"), rows)
    return [
        _record(WORDS, "353 word pairs.", "https://aclanthology.org/N09-1003"),
        _record(NEWS, "1,225 pairs of 50 news documents.", "https://escholarship.org/uc/item/48g155nq"),
    ]


def _record(name: str, description: str, reference: str) -> Record:
    return Record(
        name=name,
        type="STS",
        description=f"Similarity as people judged it: {description}",
        main_score="cosine_spearman",
        languages={"default": ["eng-Latn"]},
        license="not specified",
        reference=reference,
        package="gensim",
    )
