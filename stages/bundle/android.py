"""android.json: what an app must know to run the bundle's LiteRT files without this project's runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from embed_foundry import Variant, manifest
from embed_foundry.manifest import JsonObject, Manifest
from pydantic import Field

from stages.common.config.model import AppTask
from stages.common.records.base import AliasedRecord, Record

RULE = "keep the first n values, divide by their norm"
# Task of an app -> the prompt that is meant for it.
PROMPTS: dict[AppTask, str] = {
    "RETRIEVAL_QUERY": "query",
    "RETRIEVAL_DOCUMENT": "document",
    "SEMANTIC_SIMILARITY": "STS",
    "CLASSIFICATION": "Classification",
    "CLUSTERING": "Clustering",
    "CODE_RETRIEVAL": "InstructionRetrieval",
}
# What LiteRT says of a tensor; it has no types.
TensorDetails = dict[str, Any]


class BundledFile(Record):
    """A file: its path in the bundle, and what it must be."""

    file: str
    sha256: str
    bytes: int


class Tensor(Record):
    """An input or output, as the graph names it; `type` is numpy's name of the type."""

    name: str
    type: str
    shape: list[int]


class Graph(BundledFile):
    """The graph of one length.

    Attributes:
        tokens: the length.
        signature: LiteRT's name of the function.
        inputs: in the file's order.
        outputs: likewise.
    """

    tokens: int
    signature: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Tokenizer(BundledFile):
    """The tokenizer.

    Attributes:
        type: "sentencepiece", or "tokenizer" (tokenizer.json of Hugging Face tokenizers).
        before, after: ids of the special tokens around a text.
        pad: id that fills a graph's input.
        ids_below: rows of the model's embedding.
        added_tokens: tokens to split a text at before SentencePiece sees the parts; see `AddedToken`.
        truncation_side: where a text over the limit loses tokens, "left" or "right".
    """

    type: str
    before: list[int]
    after: list[int]
    pad: int
    ids_below: int
    added_tokens: list[JsonObject]
    truncation_side: str


class Matryoshka(Record):
    """The lengths that vectors may be truncated to, and how.

    Attributes:
        dimensions: the lengths.
        rule: how.
        model_signatures: length -> what AppSearch and ML Kit keep with a vector, and compare only where it is equal.
    """

    dimensions: list[int]
    rule: str = RULE
    model_signatures: dict[int, str]


class AppVariant(Record):
    """What an app must know of a variant of either kind; see `embed_foundry.Variant`.

    Attributes:
        tasks: task of an app (TaskType of the AI Edge RAG SDK) -> text before an input.
    """

    precision: str
    prompts: dict[str, str]
    tasks: dict[AppTask, str]
    max_tokens: int
    dimensions: int
    matryoshka: Matryoshka
    space_id: str


class AndroidVariant(AppVariant):
    """One tflite variant."""

    graphs: list[Graph]
    tokenizer: Tokenizer


class LitertlmVariant(AppVariant):
    """One litertlm variant: a file that LiteRT-LM's EmbeddingEngine opens, tokenizer and special tokens included.

    Attributes:
        container: the file.
        lengths: tokens that its signatures take; the engine pads a text to the shortest that holds it.
    """

    container: BundledFile
    lengths: list[int]


class AndroidRecord(AliasedRecord):
    """android.json.

    Attributes:
        schema_version: of this layout.
        order: the variants of either kind in the target's order.
        variants: name of a tflite variant -> what an app must know.
        litertlm: the same for litertlm variants.
    """

    FILE: ClassVar[str] = "android.json"
    schema_version: int = Field(alias="schema", default=1)
    order: list[str]
    variants: dict[str, AndroidVariant]
    litertlm: dict[str, LitertlmVariant] = Field(default={})


def write(work: Path, shipped: Mapping[str, Path], app_prompts: Mapping[AppTask, str]) -> None:
    """Write android.json into a bundle, if it ships variants for apps; docs/android.md says how an app reads it.

    Args:
        work: the bundle.
        shipped: name -> folder of the shipped variants, in the target's order.
        app_prompts: task -> text before an input, where none of the variants' prompts is meant for the task.
    """
    loaded = {name: Variant.load(folder) for name, folder in shipped.items()}
    order = [name for name, variant in loaded.items() if variant.kind in ("tflite", "litertlm")]
    if not order:
        return
    record = AndroidRecord(
        order=order,
        variants={
            name: _build_variant(shipped[name], loaded[name], app_prompts)
            for name in order
            if loaded[name].kind == "tflite"
        },
        litertlm={
            name: _build_litertlm(shipped[name], loaded[name], app_prompts)
            for name in order
            if loaded[name].kind == "litertlm"
        },
    )
    (work / AndroidRecord.FILE).write_bytes(record.dump())


def _describe(variant: Variant, app_prompts: Mapping[AppTask, str]) -> AppVariant:
    known = {task: variant.prompts[name] for task, name in PROMPTS.items() if name in variant.prompts}
    return AppVariant(
        precision=variant.precision,
        prompts=variant.prompts,
        tasks={**known, **app_prompts},
        max_tokens=variant.max_tokens,
        dimensions=variant.dimensions,
        matryoshka=Matryoshka(
            dimensions=list(variant.matryoshka),
            model_signatures={length: f"{variant.space_id}-{length}" for length in variant.matryoshka},
        ),
        space_id=variant.space_id,
    )


def _build_litertlm(folder: Path, variant: Variant, app_prompts: Mapping[AppTask, str]) -> LitertlmVariant:
    return LitertlmVariant(
        **_describe(variant, app_prompts).model_dump(),
        container=_locate(folder, variant.files["container"], manifest.read(folder)),
        lengths=sorted(variant.recipe["lengths"]),
    )


def _build_variant(folder: Path, variant: Variant, app_prompts: Mapping[AppTask, str]) -> AndroidVariant:
    from embed_foundry.encoders.tflite import TfliteSettings

    body, settings = manifest.read(folder), TfliteSettings.of(variant)
    role = "sentencepiece" if "sentencepiece" in variant.files else "tokenizer"
    return AndroidVariant(
        **_describe(variant, app_prompts).model_dump(),
        graphs=[_build_graph(folder, variant.files[f"graph_{tokens}"], tokens, body) for tokens in settings.lengths],
        tokenizer=Tokenizer(
            type=role,
            before=settings.before,
            after=settings.after,
            pad=variant.pad_id,
            ids_below=variant.vocabulary,
            added_tokens=[token.to_json() for token in settings.added_tokens],
            truncation_side=variant.truncation_side,
            **_locate(folder, variant.files[role], body).model_dump(),
        ),
    )


def _build_graph(folder: Path, name: str, tokens: int, body: Manifest) -> Graph:
    """Return a graph with its signature and tensors as the file itself names them, inputs in the file's order."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # No delegate: nothing is computed, and XNNPACK would repack all weights.
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_path=str(folder / name), experimental_op_resolver_type=resolver)
    signature = next(iter(interpreter.get_signature_list()))
    runner = interpreter.get_signature_runner(signature)
    order = [details["index"] for details in interpreter.get_input_details()]
    inputs = dict(sorted(runner.get_input_details().items(), key=lambda entry: order.index(entry[1]["index"])))
    return Graph(
        **_locate(folder, name, body).model_dump(),
        tokens=tokens,
        signature=signature,
        inputs=_list_tensors(inputs),
        outputs=_list_tensors(runner.get_output_details()),
    )


def _list_tensors(details: Mapping[str, TensorDetails]) -> list[Tensor]:
    return [
        Tensor(name=name, type=np.dtype(tensor["dtype"]).name, shape=[int(size) for size in tensor["shape"]])
        for name, tensor in details.items()
    ]


def _locate(folder: Path, name: str, body: Manifest) -> BundledFile:
    entry = body.files[name]
    return BundledFile(file=f"variants/{folder.name}/{name}", sha256=entry.sha256, bytes=entry.size)
