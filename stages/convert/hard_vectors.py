"""The hard texts by a variant and by the base model: the same token ids, and vectors as near as the kind allows."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from embed_foundry import Encoder, FoundryError, Variant, manifest
from embed_foundry.encoders.vectors import Vectors

from stages.common.records.base import Failure
from stages.common.sources import hard_texts, probe_texts
from stages.convert.conversion import MODEL_LIBRARIES, THREADS, Folders, measure_dimensions
from stages.convert.intermediate import load_or_make

VECTORS, IDS = "vectors.npy", "ids.json"
# Largest L2 distance of an exact variant's vectors. Other kernels move the last bits by 1e-6; a wrong mask, side of
# padding or prompt moves them by 0.01 and more.
EXACT_L2 = 1e-3


@dataclass(frozen=True)
class Prompted:
    """One text, with the name of a prompt; None adds no prompt."""

    text: str
    prompt: str | None


@dataclass(frozen=True)
class BaseEncoding:
    """What sentence-transformers makes of some texts, each encoded alone.

    Attributes:
        ids: token ids of each text; empty where the model has no vector for it.
        vectors: [n, d], unit norm; a row of zeros where the model has none.
    """

    ids: list[list[int]]
    vectors: Vectors


@dataclass(frozen=True)
class HardTexts:
    """The comparison's result.

    Attributes:
        texts: how many were compared.
        l2_max: largest L2 distance between the two vectors of a text.
    """

    texts: int
    l2_max: float


def compare(encoder: Encoder, folders: Folders, *, exact: bool) -> HardTexts | Failure:
    """Compare a variant with its base model on the hard texts, without and with its first prompt.

    Args:
        encoder: the variant's.
        folders: the base model's, the variant's, and a cache of the base model's vectors.
        exact: the vectors must be the base model's but for the last bits.
    """
    variant = encoder.variant
    texts = _build_texts(variant)
    expected = _encode_by_base_model(folders, variant, texts)
    known = [index for index, ids in enumerate(expected.ids) if ids]
    try:
        for index in known:
            text = texts[index]
            if (ids := encoder.token_ids([text.text], prompt=text.prompt)[0]) != expected.ids[index]:
                return Failure(error=_describe_ids(text, ids, expected.ids[index]))
        vectors = np.concatenate([_encode(encoder, texts[index]) for index in known])
    except FoundryError as error:
        return Failure(error=f"the hard texts: {error}")
    distances = np.linalg.norm(vectors - expected.vectors[known], axis=1)
    worst = int(distances.argmax())
    if exact and not distances[worst] <= EXACT_L2:
        text = texts[known[worst]]
        return Failure(
            error=f"the vector of {text.text[:60]!r} (prompt {text.prompt}) is {distances[worst]:.2g} (L2) from "
            f"sentence-transformers', expected at most {EXACT_L2:g}."
        )
    return HardTexts(len(known), float(distances[worst]))


def _build_texts(variant: Variant) -> list[Prompted]:
    """Return the hard texts and one over the token limit, each without and with the first prompt that is not empty."""
    words = " ".join(probe_texts.read_texts()).split(" ")
    texts = [*hard_texts.read_texts(), " ".join(words * (1 + variant.max_tokens // len(words)))]
    prompts = [None, *[name for name, prompt in sorted(variant.prompts.items()) if prompt][:1]]
    return [Prompted(text, prompt) for prompt in prompts for text in texts]


def _encode(encoder: Encoder, text: Prompted) -> Vectors:
    return encoder.encode([text.text], prompt=text.prompt)


def _describe_ids(text: Prompted, ids: list[int], expected: list[int]) -> str:
    pairs = zip([*ids, None], [*expected, None], strict=False)
    first = next(position for position, (left, right) in enumerate(pairs) if left != right)
    return (
        f"{text.text[:60]!r} (prompt {text.prompt}) has {len(ids)} token ids, {len(expected)} by "
        f"sentence-transformers; they differ from token {first} on: {ids[first : first + 4]}, expected "
        f"{expected[first : first + 4]}."
    )


def _encode_by_base_model(folders: Folders, variant: Variant, texts: list[Prompted]) -> BaseEncoding:
    prompted = [(text.text, variant.prompts[text.prompt] if text.prompt else "") for text in texts]
    folder = load_or_make(
        folders.cache,
        "hard_vectors",
        {"base": manifest.read(folders.base).digest, "texts": prompted, "max_tokens": variant.max_tokens},
        code=[Path(__file__)],
        libraries=MODEL_LIBRARIES,
        make=partial(_write, folders.base, prompted, variant.max_tokens),
    )
    return BaseEncoding(json.loads((folder / IDS).read_bytes()), np.load(folder / VECTORS))


def _write(base: Path, texts: list[tuple[str, str]], max_tokens: int, folder: Path) -> None:
    """Write ids and vectors of texts with their prompts, by sentence-transformers alone."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    model.max_seq_length = max_tokens
    model.default_prompt_name = None
    rows = int(model[0].auto_model.get_input_embeddings().weight.shape[0])
    all_ids, vectors = [], np.zeros((len(texts), measure_dimensions(model)), dtype=np.float32)
    for index, (text, prompt) in enumerate(texts):
        ids = [int(token) for token in model.preprocess([text], prompt=prompt or None)["input_ids"][0]]
        usable = bool(ids) and max(ids) < rows
        all_ids.append(ids if usable else [])
        if usable:
            settings = {"normalize_embeddings": True, "show_progress_bar": False}
            vectors[index] = model.encode([text], prompt=prompt or None, **settings)[0]
    (folder / IDS).write_text(json.dumps(all_ids), encoding="utf-8")
    np.save(folder / VECTORS, vectors)
