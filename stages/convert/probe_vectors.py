"""The vectors that parity compares: the probe texts by a variant's encoder, and by the base model.

The base model is run by sentence-transformers itself, not by an encoder of ours, so that a mistake in our encoders
cannot cancel out.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from embed_foundry import Encoder, manifest
from embed_foundry.encoders.tokenized import CALL_TOKENS
from embed_foundry.encoders.vectors import Vectors

from stages.common.sources import probe_texts
from stages.convert.conversion import MODEL_LIBRARIES, THREADS
from stages.convert.intermediate import load_or_make

# Every tenth text shares a batch with a long one: six rows of 2048 tokens take long enough.
PADDED_STEP = 10
FILE = "vectors.npy"
ONE_WORD = "cat"  # one token beside the special ones


@dataclass(frozen=True)
class LengthVectors:
    """Vectors by the graph of one length.

    Attributes:
        length: tokens that the graph takes.
        texts: texts that fit it; the last one fills it.
        vectors: [n, d], each text encoded alone.
    """

    length: int
    texts: list[str]
    vectors: Vectors


@dataclass(frozen=True)
class VariantVectors:
    """Vectors by a variant's encoder.

    Attributes:
        texts: the probe texts.
        longest: the longest text of whole words within the token limit.
        alone: [n, d], each probe text encoded alone.
        batched: [n, d], all in one batch.
        padded: every `PADDED_STEP`-th of them, in one batch with the longest text that a call of all of them may have.
        edges: [2, d], `ONE_WORD` and `longest`.
        lengths: for each length that has a graph of its own.
        max_tokens: the token limit.
    """

    texts: list[str]
    longest: str
    alone: Vectors
    batched: Vectors
    padded: Vectors
    edges: Vectors
    lengths: list[LengthVectors]
    max_tokens: int


def encode_by_variant(encoder: Encoder) -> VariantVectors:
    """Encode the probe texts in every way that parity compares.

    Raises:
        FoundryError: the variant's encoder fails.
    """
    texts = probe_texts.read_texts()
    longest = _build_longest_text(encoder, texts)
    shared = texts[::PADDED_STEP]
    padding = _build_longest_text(encoder, texts, CALL_TOKENS // (len(shared) + 1))
    return VariantVectors(
        texts=texts,
        longest=longest,
        alone=_encode_one_by_one(encoder, texts),
        batched=encoder.encode(texts, batch_size=len(texts)),
        padded=encoder.encode([*shared, padding], batch_size=len(texts))[:-1],
        edges=_encode_one_by_one(encoder, [ONE_WORD, longest]),
        lengths=[_encode_by_length(encoder.folder, length, texts) for length in encoder.lengths],
        max_tokens=encoder.variant.max_tokens,
    )


def encode_by_base_model(base: Path, variant: VariantVectors, cache: Path, *, own_space: bool) -> dict[str, Vectors]:
    """Return text -> the base model's vector [d].

    Args:
        base: the SentenceTransformer folder.
        variant: what its variant encoded.
        cache: keeps the vectors (half a minute for EmbeddingGemma), since most variants ask for the same texts.
        own_space: only the probe texts are wanted, whose similarities can be compared; else all texts.
    """
    by_length = (text for item in variant.lengths for text in item.texts)
    others = [] if own_space else [ONE_WORD, variant.longest, *by_length]
    vectors: dict[str, Vectors] = {}
    for texts in (variant.texts, [text for text in dict.fromkeys(others) if text not in variant.texts]):
        if texts:
            folder = load_or_make(
                cache,
                "probe_vectors",
                {"base": manifest.read(base).digest, "texts": texts, "max_tokens": variant.max_tokens},
                code=[Path(__file__)],
                libraries=MODEL_LIBRARIES,
                make=partial(_write_base_vectors, base, texts, variant.max_tokens),
            )
            vectors |= zip(texts, np.load(folder / FILE), strict=True)
    return vectors


def _encode_by_length(folder: Path, length: int, texts: list[str]) -> LengthVectors:
    """Encode by the graph of one length: nine tokens, with and without a prompt, some texts, one that fills it."""
    from embed_foundry.encoders.tflite import TfliteEncoder

    encoder = TfliteEncoder(folder, THREADS)
    encoder.use_graph(length)
    prompt = next(iter(encoder.variant.prompts.values()), "")
    candidates = [probe_texts.SHORT, prompt + probe_texts.SHORT, *texts[::PADDED_STEP]]
    counts = encoder.count_tokens(candidates)
    fitting = [text for text, count in zip(candidates, counts, strict=True) if count <= length]
    fitting.append(_build_longest_text(encoder, texts))
    return LengthVectors(length, fitting, _encode_one_by_one(encoder, fitting))


def _encode_one_by_one(encoder: Encoder, texts: list[str]) -> Vectors:
    return np.concatenate([encoder.encode([text]) for text in texts])


def _build_longest_text(encoder: Encoder, texts: list[str], most: int | None = None) -> str:
    """Return the longest text of whole words that fits the token limit and `most`, made of the probe texts repeated."""
    limit = min(encoder.variant.max_tokens, most or encoder.variant.max_tokens)
    words = " ".join(texts).split(" ")
    words = words * (1 + limit // len(words))
    fits, exceeds = 1, len(words)
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if encoder.count_tokens([" ".join(words[:middle])])[0] <= limit:
            fits = middle
        else:
            exceeds = middle
    return " ".join(words[:fits])


def _write_base_vectors(base: Path, texts: list[str], max_tokens: int, folder: Path) -> None:
    """Write the base model's vectors of texts, each encoded alone: float32 [n, d]."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    model.max_seq_length = max_tokens
    rows = [model.encode([text], normalize_embeddings=True, show_progress_bar=False) for text in texts]
    np.save(folder / FILE, np.concatenate(rows).astype(np.float32))
