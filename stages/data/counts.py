"""Sample counts against those that mteb publishes with each task: a check that the data are the benchmark's."""

from collections.abc import Iterator, Mapping
from typing import Any

# subset -> split -> what was counted.
Counted = Mapping[str, Mapping[str, Mapping[str, int]]]
PUBLISHED, UNPUBLISHED, DIFFER = "as published", "not published", "differ"


def differences(task: Any, counted: Counted) -> list[str] | None:  # noqa: ANN401 - mteb has no types
    """Return what differs, in words; None if mteb publishes no counts of this task.

    Args:
        task: the mteb task.
        counted: what layout.write counted.
    """
    published = task.metadata.descriptive_stats
    if not published:
        return None
    found = list(_differences(published, counted))
    return None if all(fault is None for fault in found) else [fault for fault in found if fault]


def _differences(published: Mapping[str, Any], counted: Counted) -> Iterator[str | None]:
    """Yield for each split of each subset what differs, "" if nothing does, None if nothing is published."""
    for subset, splits in counted.items():
        for split, mine in splits.items():
            theirs = published.get(split)
            if theirs is not None and "hf_subset_descriptive_stats" in theirs:
                theirs = theirs["hf_subset_descriptive_stats"].get(subset)
            where = f"{split} of {subset}" if subset != "default" else split
            yield None if theirs is None else _compared(where, mine, theirs)


def _compared(where: str, mine: Mapping[str, int], theirs: Mapping[str, Any]) -> str:
    if "documents" in mine:
        # Queries without an answer are never asked; mteb counts them where a task has a loader of its own.
        if theirs["num_samples"] in [mine["documents"] + mine[queries] for queries in ("queries", "listed")]:
            return ""
        published = f"{theirs['num_samples']} together"
        if "num_documents" in theirs:
            published = f"{theirs['num_documents']} and {theirs['num_queries']}"
        return f"{where} has {mine['documents']} documents and {mine['queries']} queries, published {published}"
    # Rows of lists: by the task's age, mteb counted the rows or what stands in their lists.
    if theirs["num_samples"] in mine.values():
        return ""
    return f"{where} has {mine['rows']} rows, published {theirs['num_samples']}"
