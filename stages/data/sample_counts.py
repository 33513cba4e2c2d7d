"""Sample counts against those that mteb publishes with each task: a check that the data are the benchmark's."""

from collections.abc import Mapping
from typing import Any

from stages.common.sources.suite_files import MtebTask, SampleCounts

# subset -> split -> counts.
TaskCounts = Mapping[str, Mapping[str, SampleCounts]]
# What mteb publishes of one split, or of one subset of it.
PublishedCounts = Mapping[str, Any]
# Values of TaskRecord.counts.
PUBLISHED, UNPUBLISHED, DIFFER = "as published", "not published", "differ"


def list_differences(task: MtebTask, counts: TaskCounts) -> list[str] | None:
    """Return a sentence about each split whose counts differ; None if mteb publishes no counts of this task."""
    published = task.metadata.descriptive_stats or {}
    compared = [
        _compare(split if subset == "default" else f"{split} of {subset}", split_counts, published_counts)
        for subset, splits in counts.items()
        for split, split_counts in splits.items()
        if (published_counts := _published_counts(published, subset, split)) is not None
    ]
    return [difference for difference in compared if difference] if compared else None


def _published_counts(published: Mapping[str, PublishedCounts], subset: str, split: str) -> PublishedCounts | None:
    """Return what is published of one split of one subset; None if nothing is."""
    counts = published.get(split)
    if counts is not None and "hf_subset_descriptive_stats" in counts:
        by_subset: Mapping[str, PublishedCounts] = counts["hf_subset_descriptive_stats"]
        return by_subset.get(subset)
    return counts


def _compare(where: str, counts: SampleCounts, published: PublishedCounts) -> str:
    """Return what differs; "" if nothing does."""
    if "documents" in counts:
        # Queries without a relevant document are left out; mteb counts them for tasks with a loader of their own.
        if published["num_samples"] in [counts["documents"] + counts[queries] for queries in ("queries", "listed")]:
            return ""
        expected = f"{published['num_samples']} together"
        if "num_documents" in published:
            expected = f"{published['num_documents']} and {published['num_queries']}"
        return f"{where} has {counts['documents']} documents and {counts['queries']} queries, published {expected}"
    # Rows of lists: depending on the task's age, mteb counted the rows or the items of their lists.
    if published["num_samples"] in counts.values():
        return ""
    return f"{where} has {counts['rows']} rows, published {published['num_samples']}"
