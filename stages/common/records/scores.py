"""What quality/ holds: scores, per-sample values, what noise scores, mixed indexes, scores of shorter texts."""

from typing import ClassVar

from pydantic import Field

from stages.common.records.base import Failure, MappingRecord, Record, SparseRecord

# One task's values: subset -> column -> one value a sample.
Columns = dict[str, list[float]]
TaskSamples = dict[str, Columns]


class TaskScore(SparseRecord):
    """One variant's score on one task at one dimension.

    Attributes:
        type: mteb's task type.
        metric: mteb's name of the main score.
        main_score: mean over subsets and splits, as mteb takes it; most metrics run from 0 to 1.
        samples: how many samples the score stands on.
        subsets: subset -> score, where there are several.
    """

    type: str
    metric: str
    main_score: float
    samples: int
    subsets: dict[str, float] | None = None


class VariantScores(MappingRecord[dict[int, dict[str, TaskScore]]]):
    """dimension -> task -> score; the largest dimension is the variant's full one."""

    root: dict[int, dict[str, TaskScore]]

    @property
    def full(self) -> dict[str, TaskScore]:
        """Return the scores of full vectors, by task; empty if nothing was measured."""
        return self.root[max(self.root)] if self.root else {}

    def score(self, task: str, dimensions: int) -> TaskScore | None:
        """Return the score of one task at one dimension; None if it was not measured."""
        return self.root.get(dimensions, {}).get(task)


class Scores(MappingRecord[dict[str, VariantScores | Failure]]):
    """quality/scores.json: variant -> its scores, or why its encoder failed."""

    FILE: ClassVar[str] = "scores.json"
    stage: ClassVar[str] = "quality"
    root: dict[str, VariantScores | Failure]

    def of(self, variant: str) -> VariantScores | Failure:
        """Return a variant's scores, or why there are none."""
        return self.root.get(variant, Failure(error="not measured"))


class Samples(MappingRecord[dict[int, dict[str, TaskSamples]]]):
    """quality/samples/VARIANT.json: dimension -> task -> subset -> column -> one value a sample, split after split.

    Ids and order follow from the task alone. Columns by mteb's task type; other types have none:
        Retrieval: "ndcg_at_10" a query, sorted by query id, and the task's main score if that is another one.
        Reranking: the main score a query, sorted by query id.
        Classification: "accuracy" a test text, its mean over mteb's experiments.
        BitextMining: "accuracy" a pair.
        STS: "cosine" and "gold" a pair, and the numbers of its texts, "left" and "right": pairs may share a text.
        PairClassification: "cosine" and "label" a pair.
        Clustering: "v_measure" a bootstrap or set of texts; a single text has none.
    """

    FOLDER: ClassVar[str] = "samples"
    stage: ClassVar[str] = "quality"
    root: dict[int, dict[str, TaskSamples]]


class Floor(MappingRecord[dict[str, float]]):
    """quality/floor.json: task -> main score of random token vectors."""

    FILE: ClassVar[str] = "floor.json"
    stage: ClassVar[str] = "quality"
    root: dict[str, float]


class MixedIndex(Record):
    """Queries by one variant over an index by another, on one retrieval task: means over queries, then over subsets.

    Attributes:
        ndcg_at_10: as pytrec_eval defines it.
        recall_at_10: likewise.
        overlap_at_10: share of the ten documents that queries by the index's own variant would have found.
    """

    ndcg_at_10: float
    recall_at_10: float
    overlap_at_10: float


class Compatibility(MappingRecord[dict[str, dict[str, dict[str, MixedIndex]]]]):
    """quality/compatibility.json: retrieval task -> query variant -> index variant -> figures."""

    FILE: ClassVar[str] = "compatibility.json"
    stage: ClassVar[str] = "quality"
    root: dict[str, dict[str, dict[str, MixedIndex]]] = Field(default_factory=dict)


class TruncatedScores(MappingRecord[dict[str, dict[str, dict[int, float]]]]):
    """quality/shorter.json: retrieval task -> variant -> tokens that texts were truncated to -> main score."""

    FILE: ClassVar[str] = "shorter.json"
    stage: ClassVar[str] = "quality"
    root: dict[str, dict[str, dict[int, float]]] = Field(default_factory=dict)
