"""Graded similarity as mteb tasks: word pairs and short news documents judged by people."""

from pathlib import Path

from stages.common.records.tasks import TaskRecord
from stages.common.sources.similarity import NEWS, WORDS, load_pairs
from stages.common.sources.suite_files import BUILTIN_LAYOUTS, TaskFiles


def write_tasks(work: Path) -> list[TaskRecord]:
    """Write the pairs of stages/common/sources/similarity.py and return the tasks' records."""
    for name, pairs in load_pairs().items():
        rows = [{"sentence1": first, "sentence2": second, "score": score} for first, second, score in pairs]
        TaskFiles(work / name, BUILTIN_LAYOUTS["STS"]).write("default", "test", rows)
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
