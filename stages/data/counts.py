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
        pairs = [(name, mine[name], theirs.get(f"num_{name}")) for name in ("documents", "queries")]
        if any(expected is None for _, _, expected in pairs):
            pairs = [("documents and queries", mine["documents"] + mine["queries"], theirs["num_samples"])]
        wrong = [f"{found} {name}, published {expected}" for name, found, expected in pairs if found != expected]
        return f"{where} has {' and '.join(wrong)}" if wrong else ""
    # Rows of lists: by the task's age, mteb counted the rows or what stands in their lists.
    if theirs["num_samples"] in mine.values():
        return ""
    return f"{where} has {mine['rows']} rows, published {theirs['num_samples']}"
