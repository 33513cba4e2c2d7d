"""What fine-tuning gained and forgot: retrieval at every dimension, with intervals, and graded similarity."""

from collections.abc import Mapping, Sequence

import numpy as np
from embed_foundry.encoders.vectors import Vectors, truncate
from embed_foundry.errors import InputError
from embed_foundry.progress import bar
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.common.sources import similarity
from stages.finetune.results import Evaluation, GradedChange, RetrievalGain
from stages.finetune.splits import Splits
from stages.finetune.trained_model import choose_device
from stages.finetune.triplets import Triplet, normalize_text

Scores = NDArray[np.float64]

TOP = 10
BATCH = 32
CONFIDENCE, RESAMPLES = 0.95, 10_000
DIGITS = 6


class RetrievalEvaluator(SentenceEvaluator):  # type: ignore[misc]  # no types
    """ndcg@10 of finding each anchor's positive among all texts of a split.

    Args:
        triplets: the split.
        dimensions: lengths to which vectors are truncated.
        prompts: column -> text before each anchor, positive and negative.
    """

    primary_metric = "ndcg"

    def __init__(self, triplets: Sequence[Triplet], dimensions: Sequence[int], prompts: Mapping[str, str]) -> None:
        super().__init__()
        self.dimensions, self.prompts = tuple(dimensions), dict(prompts)
        self.queries = list(dict.fromkeys(triplet.anchor for triplet in triplets))
        positives = {normalize_text(triplet.positive): triplet.positive for triplet in triplets}
        negatives = {normalize_text(text): text for triplet in triplets for text in triplet.negatives}
        self.positives = list(positives.values())
        self.negatives = [text for key, text in negatives.items() if key not in positives]
        columns = {key: column for column, key in enumerate(positives)}
        relevant: dict[str, set[int]] = {}
        for triplet in triplets:
            relevant.setdefault(triplet.anchor, set()).add(columns[normalize_text(triplet.positive)])
        self.relevant = [sorted(relevant[query]) for query in self.queries]

    def __call__(self, model: SentenceTransformer, *_: object, **__: object) -> dict[str, float]:
        """Return the mean over queries at each dimension, and as `ndcg` the mean over dimensions."""
        means = {str(dimension): float(scores.mean()) for dimension, scores in self.score_queries(model).items()}
        return {**means, "ndcg": sum(means.values()) / len(means)}

    def score_queries(self, model: SentenceTransformer) -> dict[int, Scores]:
        """Return dimension -> each query's ndcg@10, in the order of `queries`."""
        queries = encode(model, self.queries, self.prompts.get("anchor"))
        documents = encode(model, self.positives, self.prompts.get("positive"))
        if self.negatives:
            documents = np.concatenate([documents, encode(model, self.negatives, self.prompts.get("negative"))])
        texts = [*self.positives, *self.negatives]
        scores = {}
        for dimension in self.dimensions:
            similarities = truncate(queries, dimension, self.queries) @ truncate(documents, dimension, texts).T
            scores[dimension] = compute_ndcg(similarities, self.relevant)
        return scores


def compute_ndcg(similarities: Vectors, relevant: Sequence[Sequence[int]]) -> Scores:
    """Return each query's ndcg@10 with binary relevance (Järvelin & Kekäläinen, 2002): [queries].

    Args:
        similarities: [queries, documents]; of equal ones the later document is ranked first.
        relevant: each query's relevant documents, as columns of `similarities`.
    """
    discounts = 1 / np.log2(np.arange(TOP) + 2)
    scores = np.zeros(len(similarities))
    for query, (row, columns) in enumerate(zip(similarities, relevant, strict=True)):
        best = np.argsort(row, kind="stable")[::-1][:TOP]
        scores[query] = discounts[: len(best)][np.isin(best, columns)].sum() / discounts[: len(columns)].sum()
    return scores


def encode(model: SentenceTransformer, texts: list[str], prompt: str | None) -> Vectors:
    """Return unit vectors: float32 [texts, dimensions]."""
    vectors = model.encode(texts, prompt=prompt, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


def bootstrap_gains(before: Mapping[int, Scores], after: Mapping[int, Scores], seed: int) -> dict[str, RetrievalGain]:
    """Return dimension -> gain, with the 95 % percentile interval of the mean paired difference.

    The interval comes from 10,000 resamples of the queries.

    Args:
        before: dimension -> each query's score by the base model.
        after: likewise by the merged model.
        seed: of the resamples.
    """
    from scipy.stats import bootstrap

    gains = {}
    for dimension, scores in after.items():
        difference = scores - before[dimension]
        low = high = float(difference[0])
        if np.ptp(difference) > 0:  # else all resamples are equal
            interval = bootstrap(
                (difference,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile",
                rng=np.random.default_rng(seed), batch=500,
            ).confidence_interval  # fmt: skip
            low, high = float(interval.low), float(interval.high)
        gains[str(dimension)] = RetrievalGain(
            base=round(float(before[dimension].mean()), DIGITS),
            merged=round(float(scores.mean()), DIGITS),
            gain=round(float(difference.mean()), DIGITS),
            low=round(low, DIGITS),
            high=round(high, DIGITS),
            queries=len(scores),
        )
    return gains


def score_graded_similarity(model: SentenceTransformer, prompt: str | None) -> dict[str, float]:
    """Return task -> Spearman's correlation of cosines with people's scores, in points (100 is perfect).

    Raises:
        InputError: the model's vectors of all texts are equal, so nothing correlates.
    """
    from scipy.stats import spearmanr

    correlations = {}
    for task, pairs in similarity.load_pairs().items():
        texts = list(dict.fromkeys(text for left, right, _ in pairs for text in (left, right)))
        vectors = dict(zip(texts, encode(model, texts, prompt), strict=True))
        cosines = [float(vectors[left] @ vectors[right]) for left, right, _ in pairs]
        if np.ptp(cosines) == 0:
            raise InputError(
                f"finetune: all pairs of {task} are equally similar: the model gives every text the same vector. "
                "Choose another base model; if this one is sound, lower finetune.learning_rate."
            )
        correlation = spearmanr(cosines, [float(score) for *_, score in pairs]).statistic
        correlations[task] = round(100 * float(correlation), 4)
    return correlations


def compare_models(
    config: FinetuneSettings,
    model: Model,
    splits: Splits,
    prompts: Mapping[str, str],
    base: SentenceTransformer,
    merged: SentenceTransformer,
) -> Evaluation:
    """Return what the merged model gains on the held-out split at every dimension, and what it forgot."""
    dimensions = sorted({model.dimensions, *model.matryoshka}, reverse=True)
    evaluator = RetrievalEvaluator(splits.held_out, dimensions, prompts)
    retrieval, graded = [], []
    with bar("finetune: held-out and graded texts, base and merged", 4) as progress:
        for transformer in (base, merged):
            transformer.to(choose_device())
            transformer.max_seq_length = model.max_tokens
            retrieval.append(evaluator.score_queries(transformer))
            progress.update()
            graded.append(score_graded_similarity(transformer, model.prompts.get("STS")))
            progress.update()
    return Evaluation(
        retrieval=bootstrap_gains(retrieval[0], retrieval[1], config.seed),
        graded={task: GradedChange(graded[0][task], graded[1][task]) for task in graded[0]},
    )
