"""android.json: what an app must know to run the bundle's LiteRT files without this project's runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed_foundry import Variant, manifest

NAME = "android.json"
SCHEMA = 1


def write(work: Path, shipped: Mapping[str, Path]) -> None:
    """Write android.json into a bundle, if it ships tflite variants; docs/android.md says how an app reads it.

    Args:
        work: the bundle.
        shipped: name -> folder of the shipped variants, in the target's order.
    """
    variants = {name: Variant.load(folder) for name, folder in shipped.items()}
    told = {name: _variant(shipped[name], variant) for name, variant in variants.items() if variant.kind == "tflite"}
    if told:
        (work / NAME).write_bytes(manifest.canonical({"schema": SCHEMA, "order": list(told), "variants": told}))


def _variant(folder: Path, variant: Variant) -> dict[str, Any]:
    files, facts = manifest.read(folder).files, variant.recipe

    def file(role: str) -> dict[str, Any]:
        name, entry = variant.files[role], files[variant.files[role]]
        return {"file": f"variants/{folder.name}/{name}", "sha256": entry.sha256, "bytes": entry.size}

    role = "sentencepiece" if "sentencepiece" in variant.files else "tokenizer"
    before, after = facts["special_ids"]
    return {
        "precision": variant.precision,
        "graphs": [
            {"tokens": tokens} | file(f"graph_{tokens}") | _signature(folder / variant.files[f"graph_{tokens}"])
            for tokens in sorted(facts["lengths"])
        ],
        "tokenizer": {"type": role, "before": before, "after": after, "pad": variant.pad_id}
        | {"ids_below": facts["vocabulary"]}
        | file(role),
        "prompts": variant.prompts,
        "max_tokens": variant.max_tokens,
        "dimensions": variant.dimensions,
        "matryoshka": {"dimensions": list(variant.matryoshka), "rule": "keep the first n values, divide by their norm"},
        "space_id": variant.space_id,
    }


def _signature(path: Path) -> dict[str, Any]:
    """Return a graph's signature and its tensors, as the file itself names them, inputs in the file's order."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # No delegate: nothing is computed, and XNNPACK would repack all weights.
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    graph = Interpreter(model_path=str(path), experimental_op_resolver_type=kind)
    key = next(iter(graph.get_signature_list()))
    runner = graph.get_signature_runner(key)

    def tensors(named: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            {"name": name, "type": np.dtype(item["dtype"]).name, "shape": [int(size) for size in item["shape"]]}
            for name, item in named.items()
        ]

    order = [item["index"] for item in graph.get_input_details()]
    inputs = dict(sorted(runner.get_input_details().items(), key=lambda item: order.index(item[1]["index"])))
    return {"signature": key, "inputs": tensors(inputs), "outputs": tensors(runner.get_output_details())}
