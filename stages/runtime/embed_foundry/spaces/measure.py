"""What two releases find in their own indexes, in each other's, and in a mapped one."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..encoders.encoder import Encoder, TruncationWarning
from ..encoders.vectors import Vectors, truncate
from ..progress import bar
from . import linear_map
from .bounds import Bounds, bound_ratio
from .ranking import Scores, rank, score_ndcg, share, to_labels
from .texts import RetrievalTexts

# Texts a call: between two steps of progress.
STEP = 256
Pairs = tuple[Vectors, Vectors]


@dataclass(frozen=True)
class TextEncoder:
    """A variant's encoder, and the length that its vectors are truncated to."""

    encoder: Encoder
    dimensions: int

    def encode(self, texts: Sequence[str], prompt: str, label: str) -> Vectors:
        """Return unit vectors of texts under a prompt, if the variant has it: [n, dimensions].

        Long texts are truncated without a word, as wherever else the variant is used.
        """
        variant = self.encoder.variant
        name = prompt if prompt in variant.prompts else None
        parts = [np.empty((0, self.dimensions), np.float32)]
        with (
            bar(f"compare: {label} by {variant.name}", len(texts)) as progress,
            warnings.catch_warnings(action="ignore", category=TruncationWarning),
        ):
            for start in range(0, len(texts), STEP):
                part = texts[start : start + STEP]
                parts.append(self.encoder.encode(part, prompt=name, dimensions=self.dimensions))
                progress.update(len(part))
        return np.concatenate(parts)


Encoders = tuple[TextEncoder, TextEncoder]


@dataclass(frozen=True)
class TaskComparison:
    """Two releases on one set of texts. Shares are of nDCG@10.

    Without labels, what a release itself finds is relevant: the new one's ten documents for an old index, and for a new
    index the old one's. A mix then counts as good if it is as near to them as the other release is.

    Attributes:
        name: of the texts.
        queries, documents: how many.
        labelled: whether it is known what is relevant.
        quality: the new release's score over the old one's, each on its own index; None without labels.
        new_over_old: queries by the new release over the old index, relative to the old release's own; None where
            vectors differ in length.
        old_over_new: the other way round.
        overlap: mean share of the ten documents that both releases find, each in its own index.
        mixed_overlap: mean share of the new release's own ten that it also finds in the old index.
        mapped: queries by the new release over the old index, mapped, relative to the new release's own; on documents
            that the map was not fitted to. None if no map was tried.
    """

    name: str
    queries: int
    documents: int
    labelled: bool
    quality: Bounds | None
    new_over_old: Bounds | None
    old_over_new: Bounds | None
    overlap: float
    mixed_overlap: float | None
    mapped: Bounds | None = None


@dataclass(frozen=True)
class Encoded:
    """The vectors of one set of texts by both releases: [queries, d] and [documents, d]."""

    texts: RetrievalTexts
    old_queries: Vectors
    old_documents: Vectors
    new_queries: Vectors
    new_documents: Vectors


def encode(encoders: Encoders, texts: RetrievalTexts) -> Encoded:
    """Return the vectors of queries and documents by the old and the new release."""
    vectors = []
    for encoder in encoders:
        for prompt, part in (("query", texts.queries), ("document", texts.documents)):
            vectors.append(encoder.encode(part, prompt, f"{texts.name}, {prompt} texts"))
    return Encoded(texts, *vectors)


def encode_fitting(encoders: Encoders, texts: Sequence[str]) -> Pairs:
    """Return both releases' vectors of the texts that a map is fitted to, as documents."""
    old, new = (encoder.encode(texts, "document", "texts for a map") for encoder in encoders)
    return old, new


def measure(vectors: Encoded) -> TaskComparison:
    """Return what the releases find without a map."""
    texts = vectors.texts
    own_old, own_new = (
        rank(vectors.old_queries, vectors.old_documents),
        rank(vectors.new_queries, vectors.new_documents),
    )
    for_old, for_new = texts.relevant or to_labels(own_new), texts.relevant or to_labels(own_old)
    quality = new_over_old = old_over_new = mixed_overlap = None
    if texts.relevant:
        quality = bound_ratio(score_ndcg(own_new, texts.relevant), score_ndcg(own_old, texts.relevant))
    if vectors.old_queries.shape[1] == vectors.new_queries.shape[1]:
        mixed = rank(vectors.new_queries, vectors.old_documents)
        reverse = rank(vectors.old_queries, vectors.new_documents)
        new_over_old = bound_ratio(score_ndcg(mixed, for_old), score_ndcg(own_old, for_old))
        old_over_new = bound_ratio(score_ndcg(reverse, for_new), score_ndcg(own_new, for_new))
        mixed_overlap = float(share(mixed, own_new).mean())
    return TaskComparison(
        name=texts.name,
        queries=len(texts.queries),
        documents=len(texts.documents),
        labelled=texts.relevant is not None,
        quality=quality,
        new_over_old=new_over_old,
        old_over_new=old_over_new,
        overlap=float(share(own_old, own_new).mean()),
        mixed_overlap=mixed_overlap,
    )


def measure_map(vectors: Encoded, pairs: Pairs) -> Bounds:
    """Return what a mapped index keeps of the new release's own nDCG@10, on documents that the map was not fitted to.

    Documents fall into two halves; each is mapped by what was fitted to the other, and to the pairs, and is searched by
    itself. Of labelled queries, those count that have something relevant in the half.

    Args:
        vectors: of the texts.
        pairs: further texts' vectors in the old and the new space.
    """
    half = np.arange(len(vectors.texts.documents)) % 2 == 0
    scores, reference = [], []
    for held in (half, ~half):
        matrix, _ = linear_map.fit(*join(pairs, (vectors.old_documents[~held], vectors.new_documents[~held])))
        names = [text for text, kept in zip(vectors.texts.documents, held, strict=True) if kept]
        mapped = truncate(vectors.old_documents[held] @ matrix, matrix.shape[1], names)
        mapped_scores, own_scores = _score_half(vectors, held, mapped)
        scores.append(mapped_scores)
        reference.append(own_scores)
    return bound_ratio(np.concatenate(scores), np.concatenate(reference))


def _score_half(vectors: Encoded, held: NDArray[np.bool_], mapped: Vectors) -> tuple[Scores, Scores]:
    """Return the new release's scores over mapped documents, and over its own, in an index of the held ones alone."""
    queries, documents = vectors.new_queries, vectors.new_documents[held]
    if vectors.texts.relevant is None:
        own = rank(queries, documents)
        labels = to_labels(own)
        return score_ndcg(rank(queries, mapped), labels), score_ndcg(own, labels)
    places = {position: place for place, position in enumerate(np.flatnonzero(held).tolist())}
    relevant = [{places[d]: grade for d, grade in row.items() if d in places} for row in vectors.texts.relevant]
    judged = [number for number, row in enumerate(relevant) if row]
    labels = [relevant[number] for number in judged]
    queries = queries[judged]
    return score_ndcg(rank(queries, mapped), labels), score_ndcg(rank(queries, documents), labels)


def join(*parts: Pairs) -> Pairs:
    """Return pairs of vectors one after another."""
    return np.concatenate([old for old, _ in parts]), np.concatenate([new for _, new in parts])
