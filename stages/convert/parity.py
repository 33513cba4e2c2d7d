"""Parity of a converted variant with its base model, over probe_texts.txt and hard_texts.json in common/sources."""

from collections.abc import Iterable, Mapping

import numpy as np
from embed_foundry import FoundryError, open_variant
from embed_foundry.encoders.vectors import Vectors
from numpy.typing import NDArray

from stages.common.records.base import Failure
from stages.common.records.parity import Parity
from stages.convert import hard_vectors, probe_vectors
from stages.convert.conversion import THREADS, Folders
from stages.convert.probe_vectors import ONE_WORD, PADDED_STEP, VariantVectors

DIGITS = 6


def measure_parity(folders: Folders, *, own_space: bool, exact: bool) -> Parity | Failure:
    """Return the parity of a variant, figures rounded to 6 decimals, or why its vectors cannot be compared.

    Args:
        folders: the SentenceTransformer's, the variant's, and a cache of the base model's vectors.
        own_space: the variant's vectors cannot be compared with the base model's; only their similarities can.
        exact: they must be the base model's but for the last bits.
    """
    try:
        encoder = open_variant(folders.work, THREADS)
        variant = probe_vectors.encode_by_variant(encoder)
    except FoundryError as error:
        return Failure(error=str(error))
    reference = probe_vectors.encode_by_base_model(folders.base, variant, folders.cache, own_space=own_space)
    expected = _stack(reference, variant.texts)
    size, expected_size = variant.alone.shape[1], expected.shape[1]
    if not own_space and size != expected_size:
        return Failure(error=f"vectors have {size} dimensions, the base model's {expected_size}.")
    figures = _compare_batches(variant) | _compare_similarities(variant.alone, expected, own_space=own_space)
    if not own_space:
        figures |= _compare_cosines(variant, reference)
        hard = hard_vectors.compare(encoder, folders, exact=exact)
        if isinstance(hard, Failure):
            return hard
        figures |= {"hard_texts": hard.texts, "hard_l2_max": _round(hard.l2_max)}
    return Parity.model_validate(figures)


def _compare_batches(variant: VariantVectors) -> dict[str, object]:
    """Return the fields of `Parity` that say how a text's vector depends on the others in its batch."""
    shifts = (
        _max_shift(variant.batched, variant.alone),
        _max_shift(variant.padded, variant.alone[::PADDED_STEP]),
    )
    changes = (_rank_nearest(variant.batched) != _rank_nearest(variant.alone)).any(axis=1)
    return {
        "texts": len(variant.texts),
        "batch_shift_max": _round(max(shifts)),
        "batch_rank_changes": int(changes.sum()),
    }


def _compare_similarities(vectors: Vectors, expected: Vectors, *, own_space: bool) -> dict[str, object]:
    """Return the fields of `Parity` that compare the similarities of all pairs of texts."""
    from scipy.stats import spearmanr

    similarities, expected_similarities = (_pairwise_similarities(rows) for rows in (vectors, expected))
    figures: dict[str, object] = {
        "median_cosine": _round(np.median(similarities)),
        "similarity_spearman": _round(spearmanr(similarities, expected_similarities).statistic),
    }
    if not own_space:
        figures["median_cosine_shift"] = _round(abs(np.median(similarities) - np.median(expected_similarities)))
    return figures


def _compare_cosines(variant: VariantVectors, reference: Mapping[str, Vectors]) -> dict[str, object]:
    """Return the fields of `Parity` that are cosines to the base model's vectors, and the text of the least."""
    expected = _stack(reference, variant.texts)
    cosines = _cosines(variant.alone, expected)
    one_token, at_limit = _cosines(variant.edges, _stack(reference, [ONE_WORD, variant.longest]))
    by_length = {
        item.length: float(_cosines(item.vectors, _stack(reference, item.texts)).min()) for item in variant.lengths
    }
    return {
        "cosine_mean": _round(cosines.mean()),
        "cosine_min": _round(min([float(cosines.min()), *by_length.values()])),
        "worst_text": variant.texts[int(cosines.argmin())],
        "padded_batch_min": _round(_cosines(variant.padded, expected[::PADDED_STEP]).min()),
        "one_token": _round(one_token),
        "at_limit": _round(at_limit),
        "lengths": {length: _round(cosine) for length, cosine in by_length.items()} or None,
    }


def _stack(reference: Mapping[str, Vectors], texts: Iterable[str]) -> Vectors:
    return np.stack([reference[text] for text in texts])


def _pairwise_similarities(vectors: Vectors) -> Vectors:
    """Return the cosine of every pair of different texts: [n, d] -> [n (n - 1) / 2]."""
    similarities: Vectors = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    return similarities


def _max_shift(left: Vectors, right: Vectors) -> float:
    """Return the largest L2 distance between rows of the same number."""
    return float(np.linalg.norm(left - right, axis=1).max())


def _rank_nearest(vectors: Vectors) -> NDArray[np.intp]:
    """Return the ten nearest other texts of each text, nearest first: [n, 10]."""
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    return np.argsort(-similarities, axis=1, kind="stable")[:, :10]


def _cosines(left: Vectors, right: Vectors) -> Vectors:
    """Return the cosines of rows of the same number, which have unit norm: [n]."""
    cosines: Vectors = (left * right).sum(axis=1)
    return cosines


def _round(value: float | np.floating) -> float:
    return round(float(value), DIGITS)
