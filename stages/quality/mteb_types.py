"""Names for what mteb takes and gives: mteb and datasets have no types here; its tasks are suite_files.MtebTask."""

from collections.abc import Mapping
from typing import Any

# One batch of a DataLoader: "text", and for retrieval tasks "id".
Batch = Mapping[str, list[str]]
# The rows of one split: a datasets.Dataset, or a retrieval task's mapping of queries, corpus and relevance.
SplitRows = Any
# What mteb predicted for one split; its form depends on the task's type.
Predictions = Any
# mteb's own scores of one subset in one split.
SubsetScores = Mapping[str, Any]
# split -> subset -> scores.
SplitScores = Mapping[str, Mapping[str, SubsetScores]]
