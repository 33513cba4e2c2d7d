"""What fine-tuning gained and cost: retrieval at every Matryoshka dimension, with intervals, and graded similarity."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from embed_foundry.encoder import Vectors, cut
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.common.contract.progress import bar
from stages.common.sources import similarity
from stages.finetune.triplets import Splits, Triplet, plain

TOP = 10
BATCH = 32
CONFIDENCE, RESAMPLES = 0.95, 10_000
DIGITS = 6


class Retrieval(SentenceEvaluator):  # type: ignore[misc]  # no types
    """ndcg@10 of finding each anchor's positive among all texts of a split.

    Args:
        triplets: the split.
        dimensions: lengths that vectors are cut to.
        prompts: column -> text before each anchor, positive and negative.
    """

    primary_metric = "ndcg"

    def __init__(self, triplets: Sequence[Triplet], dimensions: Sequence[int], prompts: Mapping[str, str]) -> None:
        super().__init__()
        self.dimensions, self.prompts = tuple(dimensions), dict(prompts)
        self.queries = list(dict.fromkeys(one.anchor for one in triplets))
        texts = {plain(one.positive): one.positive for one in triplets}
        known = set(texts)
        self.others = list({plain(t): t for one in triplets for t in one.negatives if plain(t) not in known}.values())
        self.corpus = list(texts.values())
        places = {key: at for at, key in enumerate(texts)}
        right: dict[str, set[int]] = {}
        for one in triplets:
            right.setdefault(one.anchor, set()).add(places[plain(one.positive)])
        self.right = [sorted(right[query]) for query in self.queries]

    def __call__(self, model: SentenceTransformer, *_: Any, **__: Any) -> dict[str, float]:  # noqa: ANN401
        """Return the mean over queries at each dimension, and as `ndcg` over dimensions."""
        found = {str(length): float(values.mean()) for length, values in self.values(model).items()}
        return {**found, "ndcg": sum(found.values()) / len(found)}

    def values(self, model: SentenceTransformer) -> dict[int, NDArray[np.float64]]:
        """Return dimension -> each query's ndcg@10, in the order of `queries`."""
        queries = encode(model, self.queries, self.prompts.get("anchor"))
        documents = encode(model, self.corpus, self.prompts.get("positive"))
        if self.others:
            documents = np.concatenate([documents, encode(model, self.others, self.prompts.get("negative"))])
        return {length: ndcg(cut(queries, length) @ cut(documents, length).T, self.right) for length in self.dimensions}


def ndcg(scores: Vectors, right: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return each query's ndcg@10 with binary relevance (Järvelin & Kekäläinen, 2002): [queries].

    Args:
        scores: [queries, documents]; of equal ones the document that comes later is ranked first.
        right: the relevant documents' columns, query by query.
    """
    gains = 1 / np.log2(np.arange(TOP) + 2)
    out = np.zeros(len(scores))
    for at, (row, wanted) in enumerate(zip(scores, right, strict=True)):
        best = np.argsort(row, kind="stable")[::-1][:TOP]
        out[at] = gains[: len(best)][np.isin(best, wanted)].sum() / gains[: len(wanted)].sum()
    return out


def encode(model: SentenceTransformer, texts: list[str], prompt: str | None) -> Vectors:
    """Return unit vectors, float32 [n, d]."""
    found = model.encode(texts, prompt=prompt, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(found, dtype=np.float32)


def gains(
    before: Mapping[int, NDArray[np.float64]], after: Mapping[int, NDArray[np.float64]], seed: int
) -> dict[str, dict[str, Any]]:
    """Return dimension -> {base, merged, gain, low, high, queries}: means, and the gain's interval.

    The interval is the 95 % percentile interval of the mean paired difference over 10,000 resamples of the queries.
    """
    from scipy.stats import bootstrap

    found = {}
    for length, values in after.items():
        change = values - before[length]
        low = high = float(change[0])
        if np.ptp(change) > 0:  # else every resample is alike
            interval = bootstrap(
                (change,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile",
                rng=np.random.default_rng(seed), batch=500,
            ).confidence_interval  # fmt: skip
            low, high = float(interval.low), float(interval.high)
        figures = {
            "base": before[length].mean(),
            "merged": values.mean(),
            "gain": change.mean(),
            "low": low,
            "high": high,
        }
        found[str(length)] = {key: round(float(value), DIGITS) for key, value in figures.items()} | {
            "queries": len(values)
        }
    return found


def graded(model: SentenceTransformer, prompt: str | None) -> dict[str, float]:
    """Return task -> Spearman's correlation of cosines with people's scores, in points (100 is perfect)."""
    from scipy.stats import spearmanr

    found = {}
    for name, pairs in similarity.load_pairs().items():
        texts = list(dict.fromkeys(text for left, right, _ in pairs for text in (left, right)))
        vectors = dict(zip(texts, encode(model, texts, prompt), strict=True))
        cosines = [float(vectors[left] @ vectors[right]) for left, right, _ in pairs]
        found[name] = round(100 * float(spearmanr(cosines, [float(score) for *_, score in pairs]).statistic), 4)
    return found


def report(
    config: FinetuneSettings,
    model: Model,
    splits: Splits,
    prompts: Mapping[str, str],
    base: SentenceTransformer,
    merged: SentenceTransformer,
) -> dict[str, Any]:
    """Return what the merged model gains on the held-out split at every dimension, and what it forgot.

    Keys: retrieval, as `gains`; graded: task -> {base, merged} in points.
    """
    held_out = Retrieval(splits.held_out, sorted({model.dimensions, *model.matryoshka}, reverse=True), prompts)
    values, points = [], []
    with bar("finetune: held-out and graded texts, base and merged", 4) as progress:
        for one in (base, merged):
            one.to("cuda" if torch.cuda.is_available() else "cpu")
            one.max_seq_length = model.max_tokens
            values.append(held_out.values(one))
            progress.update()
            points.append(graded(one, model.prompts.get("STS")))
            progress.update()
    return {
        "retrieval": gains(values[0], values[1], config.seed),
        "graded": {name: {"base": points[0][name], "merged": points[1][name]} for name in points[0]},
    }
