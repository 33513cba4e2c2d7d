"""LiteRT-LM variants: one .litertlm file that LiteRT-LM's EmbeddingEngine opens on phones and computers.

The engine (0.18) wants one model that looks up a single token, and one with a signature `encoder_LENGTH` for each
length. It fills a length with token 0 and passes no mask, so the lookup marks tokens that are no padding.
"""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
from embed_foundry import InputError, manifest
from embed_foundry.encoders.vectors import Vectors

from stages.common.config.variant import LitertlmRecipe
from stages.convert import tflite
from stages.convert.conversion import THREADS, ConversionResult, Folders
from stages.convert.graph import SENTENCE
from stages.convert.piece_tokenizer import write_tokenizer
from stages.convert.rounding.rules import apply_rules
from stages.convert.tokenizer import SpecialIds, load_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LIBRARIES = (*tflite.LIBRARIES, "litert-lm-api", "litert-lm-builder")
CONTAINER, EMBEDDER, ENCODER = "model.litertlm", "embedder.tflite", "encoder.tflite"
# The id that LiteRT-LM fills a length with.
PAD = 0


def convert(folders: Folders, recipe: LitertlmRecipe) -> ConversionResult:
    """Export lookup and encoder, round them by the recipe's rules, and pack them with tokenizer and metadata.

    Raises:
        InputError: LiteRT-LM cannot do with texts what the model does; litert-torch cannot convert it; or the recipe's
            rounding does not fit it.
    """
    import torch

    torch.set_num_threads(THREADS)
    base, work = folders.base, folders.work
    tokenizer = load_tokenizer(base, folders.cache)
    special = tokenizer.read_special_ids()
    require_engine(special, tokenizer.settings.truncation_side)
    written = write_tokenizer(base, tokenizer, work)
    lengths = sorted(recipe.lengths)
    probes = {length: tflite.build_probes(written.tokenizer, special, length) for length in lengths}
    model = tflite.load_model(base)
    tflite.round_before_export(model, tokenizer, recipe)
    expected = {length: tflite.encode_by_model(model, rows) for length, rows in probes.items()}
    _export(model, lengths, work)
    vectors = {length: _encode(work, length, rows) for length, rows in probes.items()}
    faults = [tflite.compare_graph(length, vectors[length], expected[length]) for length in lengths]
    if recipe.rules:
        for name in (EMBEDDER, ENCODER):
            apply_rules(work / name, recipe.rules)
    _pack(work, special, tokenizer.path)
    return ConversionResult(
        files=written.files | {"container": CONTAINER},
        dimensions=int(vectors[lengths[0]].shape[1]),
        recipe_entries=written.describe(special),
        batching="single",
        exact=not recipe.rules,
        max_tokens=lengths[-1],
        fault=next(filter(None, faults), ""),
    )


def require_engine(special: SpecialIds, truncation_side: str) -> None:
    """Check that LiteRT-LM can put a model's special tokens around a text, and truncates it at the model's side.

    Raises:
        InputError: they are not one before and one after, or one of them is the token that it pads with; or the model
            truncates on the left.
    """
    if truncation_side == "left":
        raise InputError("litertlm: the model truncates on the left, LiteRT-LM on the right. Leave litertlm out.")
    if (len(special.before), len(special.after)) != (1, 1) or PAD in (*special.before, *special.after):
        raise InputError(
            f"litertlm: the model puts the tokens {special.before} before a text and {special.after} after it. "
            f"LiteRT-LM puts one and one, and pads with token {PAD}. Leave litertlm out of `variant`."
        )


def _export(model: "SentenceTransformer", lengths: list[int], work: Path) -> None:
    import torch

    from stages.convert.graph.fixed import Embedder, FixedFromEmbeddings
    from stages.convert.graph.litert_export import SERVING, export_signatures

    embedder = Embedder(model, PAD).eval()
    token = torch.zeros((1, 1), dtype=torch.int32)
    width = embedder(token)["embeddings"].shape[-1]
    encoders = {
        f"encoder_{length}": (
            FixedFromEmbeddings(model, length).eval(),
            {"embeddings": torch.zeros((1, length, width))},
        )
        for length in lengths
    }
    export_signatures({SERVING: (embedder, {"tokens": token})}, work / EMBEDDER)
    export_signatures(encoders, work / ENCODER)


def _encode(work: Path, length: int, rows: list[list[int]]) -> Vectors:
    """Return the vectors of rows of ids by the two fp32 graphs, as the engine joins them: float32 [n, d]."""
    from ai_edge_litert.interpreter import Interpreter

    look_up = Interpreter(str(work / EMBEDDER), num_threads=THREADS).get_signature_runner()
    encode = Interpreter(str(work / ENCODER), num_threads=THREADS).get_signature_runner(f"encoder_{length}")
    vectors = []
    for row in rows:
        padded = [*row, *[PAD] * (length - len(row))]
        tokens = [look_up(tokens=np.array([[number]], dtype=np.int32))["embeddings"] for number in padded]
        vectors.append(encode(embeddings=np.concatenate(tokens, axis=1))[SENTENCE][0])
    return np.stack(vectors)


def _pack(work: Path, special: SpecialIds, tokenizer: Path) -> None:
    """Write the container over the two graphs, tokenizer and metadata, and remove the graphs; always the same bytes."""
    from litert_lm_builder import litertlm_builder
    from litert_lm_builder.runtime.proto.embedding_metadata_pb2 import EmbeddingMetadata

    metadata = EmbeddingMetadata()
    metadata.embedding_model_type.generic_model.SetInParent()
    metadata.bos_token.token_ids.ids.extend(special.before)
    metadata.eos_token.token_ids.ids.extend(special.after)
    settings = work / "metadata.pb"
    settings.write_bytes(metadata.SerializeToString(deterministic=True))
    parts = [work / EMBEDDER, work / ENCODER, settings]
    digest = "".join(map(manifest.sha256, [*parts, tokenizer]))
    entry = litertlm_builder.Metadata(
        key="uuid", value=str(uuid.uuid5(uuid.NAMESPACE_OID, digest)), dtype=litertlm_builder.DType.STRING
    )
    kinds = litertlm_builder.TfLiteModelType
    builder = litertlm_builder.LitertLmFileBuilder()
    builder.add_system_metadata(entry)
    builder.add_embedding_metadata(os.fspath(settings))
    # Not SentencePiece's own file: with that, the engine does not know quoted special tokens, such as "<bos>".
    builder.add_hf_tokenizer(os.fspath(tokenizer))
    builder.add_tflite_model(os.fspath(work / EMBEDDER), kinds.EMBEDDER)
    builder.add_tflite_model(os.fspath(work / ENCODER), kinds.TEXT_ENCODER)
    # It would add a random uuid and the time.
    keep = mock.patch.object(litertlm_builder, "populate_system_metadata", lambda entries: entries)
    with keep, (work / CONTAINER).open("wb") as file:
        builder.build(file)
    for part in parts:
        part.unlink()
