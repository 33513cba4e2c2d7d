"""Parity of a converted variant with its base model, over stages/common/sources/probe_texts.txt.

The base model is run by sentence-transformers itself, not by an encoder of ours, so that a mistake in our encoders
cannot cancel out.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from embed_foundry import Encoder, FoundryError, manifest, open_variant
from embed_foundry.encoder import Vectors
from numpy.typing import NDArray

from stages.common.sources import probe_texts as probes
from stages.convert.conversion import THREADS

DIGITS = 6
# Every which text shares a batch with one at the token limit: six rows of 2048 tokens are enough to wait for.
PADDED = 10
_SHORTEST = "cat"  # one token beside the special ones


def measure(base: Path, folder: Path, *, own_space: bool) -> dict[str, Any]:
    """Return the parity figures of the variant in `folder`; cosines are rounded to 6 decimals.

    Keys: texts, cosine_mean, cosine_min, worst_text (each text alone); one_token and at_limit (cosine of a one-token
    text and of one cut at the token limit); padded_batch_min (least cosine when a long text pads the short ones);
    batch_shift_max (largest L2 move of any text's vector from alone to batched with others); batch_rank_changes (texts
    whose ten nearest others come in another order when all are batched); median_cosine (of all pairs: a space that
    collapsed has all texts alike) and median_cosine_shift (how far that is from the base model's);
    similarity_spearman (rank correlation of all pairwise similarities, comparable across spaces); lengths (only where
    each length has a graph of its own: length -> least cosine through that very graph of nine tokens, the same with a
    prompt, a text that fills it, and every tenth text), which cosine_min covers. Cosines are absent for a
    variant with a space of its own. An encoder that fails gives {"error": why}, which no gate passes.

    Args:
        base: the SentenceTransformer folder.
        folder: the variant folder.
        own_space: the variant's vectors cannot be compared with the base model's.
    """
    from scipy.stats import spearmanr

    texts = probes.texts()
    try:
        encoder = open_variant(folder, THREADS)
        long = _at_limit(encoder, texts)
        alone = _alone(encoder, texts)
        batched = encoder.encode(texts, batch_size=len(texts))
        padded = encoder.encode([*texts[::PADDED], long], batch_size=len(texts))[:-1]
        edges = _alone(encoder, [_SHORTEST, long])
        fixed = [_through(folder, length, texts) for length in encoder.lengths]
    except FoundryError as error:
        return {"error": str(error)}
    asked = tuple(dict.fromkeys([*texts, _SHORTEST, long, *(text for _, through, _ in fixed for text in through)]))
    known = _reference(base, manifest.read(base).digest, asked, encoder.variant.max_tokens)
    expected = known[: len(texts) + 2]
    if not own_space and expected.shape[1] != alone.shape[1]:
        return {"error": f"vectors have {alone.shape[1]} dimensions, the base model's {expected.shape[1]}."}
    upper = np.triu_indices(len(texts), 1)
    similar, original = ((vectors @ vectors.T)[upper] for vectors in (alone, expected[:-2]))
    figures: dict[str, Any] = {
        "texts": len(texts),
        "batch_shift_max": max(_shift(batched, alone), _shift(padded, alone[::PADDED])),
        "batch_rank_changes": int((_nearest(batched) != _nearest(alone)).any(axis=1).sum()),
        "median_cosine": float(np.median(similar)),
        "similarity_spearman": float(spearmanr(similar, original).statistic),
    }
    if not own_space:
        cosines = _cosines(alone, expected[:-2])
        figures |= {
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
            "median_cosine_shift": float(abs(np.median(similar) - np.median(original))),
            "worst_text": texts[int(cosines.argmin())],
            "padded_batch_min": float(_cosines(padded, expected[:-2:PADDED]).min()),
            "one_token": float(_cosines(edges, expected[-2:])[0]),
            "at_limit": float(_cosines(edges, expected[-2:])[1]),
        }
        rows = dict(zip(asked, known, strict=True))
        for length, through, vectors in fixed:
            least = float(_cosines(vectors, np.stack([rows[text] for text in through])).min())
            figures.setdefault("lengths", {})[str(length)] = round(least, DIGITS)
            figures["cosine_min"] = min(figures["cosine_min"], least)
    return {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in figures.items()}


def _through(folder: Path, length: int, texts: list[str]) -> tuple[int, list[str], Vectors]:
    """Return a length, texts that its graph holds, the last of which fills it, and their vectors by that very graph."""
    from embed_foundry.tflite import TfliteEncoder

    encoder = TfliteEncoder(folder, THREADS)
    encoder.use_graph(length)
    prompt = next(iter(encoder.variant.prompts.values()), "")
    asked = [probes.SHORT, prompt + probes.SHORT, *texts[::PADDED]]
    counts = encoder.count_tokens(asked)
    fit = [text for text, count in zip(asked, counts, strict=True) if count <= length] + [_at_limit(encoder, texts)]
    return length, fit, _alone(encoder, fit)


def _alone(encoder: Encoder, texts: list[str]) -> Vectors:
    return np.concatenate([encoder.encode([text]) for text in texts])


def _shift(left: Vectors, right: Vectors) -> float:
    return float(np.linalg.norm(left - right, axis=1).max())


def _nearest(vectors: Vectors) -> NDArray[np.intp]:
    """Return the ten nearest other texts of each text, nearest first: [n, 10]."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    return np.argsort(-similar, axis=1, kind="stable")[:, :10]


def _at_limit(encoder: Encoder, texts: list[str]) -> str:
    """Return the longest text of whole words that fits the token limit, made of the parity texts repeated."""
    limit = encoder.variant.max_tokens
    words = " ".join(texts).split(" ")
    words = words * (1 + limit // len(words))
    fits, over = 1, len(words)
    while over - fits > 1:
        middle = (fits + over) // 2
        if encoder.count_tokens([" ".join(words[:middle])])[0] <= limit:
            fits = middle
        else:
            over = middle
    return " ".join(words[:fits])


@lru_cache(maxsize=1)  # half a minute for EmbeddingGemma; variants without lengths of their own ask for the same texts
def _reference(base: Path, _digest: str, texts: tuple[str, ...], max_tokens: int) -> Vectors:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    model.max_seq_length = max_tokens
    rows = [model.encode([text], normalize_embeddings=True, show_progress_bar=False) for text in texts]
    return np.concatenate(rows).astype(np.float32)


def _cosines(left: Vectors, right: Vectors) -> Vectors:
    unit: Vectors = (left * right).sum(axis=1)
    return unit
