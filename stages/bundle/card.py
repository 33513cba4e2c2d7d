"""The model card: the bundle's README.md, with the metadata that the Hugging Face hub reads."""

from collections.abc import Iterator, Mapping
from typing import Any

from embed_foundry.kinds import KINDS

from stages.bundle.licences import HUB

# Which files a hub repository stores by LFS. Without this file the hub adds its own, which no manifest lists.
ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in ("*.bin", "*.model", "*.onnx", "*.safetensors", "*.tflite", "*.whl", "tokenizer.json")
)
BODY = """
# {model} for {target}

{repo} at revision `{revision}`,
converted by Embed Foundry into {count} variants that were measured against the original and passed the limits of the
target `{target}`.

```python
# pip install 'runtime/{wheel}{extras}'      (no torch)
from embed_foundry import open_bundle

encoder = open_bundle(".")  # verifies every byte, picks a variant, self-tests it
vectors = encoder.encode(["How do I list my buckets?"])  # float32 [1, {dimensions}], unit norm
```

`embed-foundry explain .` says which variant is taken on your host and why; `embed-foundry verify . --key KEY` who made
this.

| variant | weights | MB | vectors | peak MB | {lengths} | {tasks} |
|---|---|---|---|---|{rules}|
{rows}

Speed-ups are medians of paired ratios to `{baseline}` on {machine}, one text a call; quality is the score as a part of
`{baseline}`'s, the least of each task type. Vectors of variants with one space id may meet in one index: {spaces}.

Texts over {max_tokens} tokens are cut, with a warning. Vectors may be cut to {matryoshka} dimensions and renormalised.
{prompts}

Evidence: `evidence/` (scores, latency, the verdict with every limit and margin, mixed indexes, the report).
Materials: `bom.cdx.json`. Terms: `NOTICE` and `LICENSE`.
"""


def render(told: Mapping[str, Any]) -> str:
    """Return the card's text.

    Args:
        told: bundle.json's content.
    """
    from huggingface_hub import ModelCard

    head = f"---\n{_metadata(told).to_yaml()}\n---\n"
    return str(ModelCard(head + _body(told)))


def _metadata(told: Mapping[str, Any]) -> Any:  # noqa: ANN401 - huggingface_hub.ModelCardData
    """Return the metadata; its results are those of the target's first choice, which is what `open_bundle` gives."""
    from huggingface_hub import EvalResult, ModelCardData

    model, licence = told["model"], told["model"]["license"]
    first = next(iter(told["selection"]["order"]))
    entry = told["variants"][first]
    known = HUB.get(licence["name"])
    # The hub's word for what a variant is to its base model.
    tuned = told["sources"]["weights"]["stage"].startswith("finetune")
    relation = "finetune" if tuned else "quantized" if entry["bits"] < 16 else None
    terms = {"license": known} if known else {"license": "other", "license_name": licence["name"]}
    results = [
        EvalResult(
            task_type=it["type"],
            dataset_type=task,
            dataset_name=task,
            metric_type=it["metric"],
            metric_value=round(100 * it["score"], 4),
        )
        for task, it in sorted(entry["measured"]["quality"].items())
    ]
    return ModelCardData(
        model_name=f"{model['name']}-{told['target']['name']}-{first}",
        base_model=model["repo"],
        base_model_relation=relation,
        pipeline_tag="sentence-similarity",
        tags=sorted({"feature-extraction", "embeddings", *(it["kind"] for it in told["variants"].values())}),
        eval_results=results or None,
        license_link=None if known == "apache-2.0" else licence["url"],
        **terms,
    )


def _body(told: Mapping[str, Any]) -> str:
    model, variants = told["model"], told["variants"]
    first = variants[told["selection"]["order"][0]]
    lengths = sorted({tokens for entry in variants.values() for tokens in entry["measured"]["speedup"]}, key=int)
    types = sorted({it["type"] for entry in variants.values() for it in entry["measured"]["quality"].values()})
    machine = (told["measured_on"]["machine"] or {}).get("cpu", "a machine that was not recorded")
    prompts = ", ".join(f"`{name}`" for name in sorted(first["prompts"]))
    extras = sorted({KINDS[entry["kind"]].extra for entry in variants.values()} - {""})
    return BODY.format(
        model=model["name"],
        target=told["target"]["name"],
        repo=model["repo"],
        revision=model["revision"],
        count=len(variants),
        wheel=told["runtime"].partition("/")[2],
        extras=f"[{','.join(extras)}]" if extras else "",
        dimensions=first["dimensions"],
        lengths=" | ".join(f"{tokens} tokens" for tokens in lengths) or "speed",
        tasks=" | ".join(types) or "quality",
        rules="---|" * (max(1, len(lengths)) + max(1, len(types)) - 1) + "---",
        rows="\n".join(f"| {' | '.join(_row(name, variants[name], lengths, types))} |" for name in variants),
        baseline=told["baseline"],
        machine=machine,
        spaces="; ".join(f"`{space}`: {', '.join(names)}" for space, names in told["selection"]["fallback"].items()),
        max_tokens=first["max_tokens"],
        matryoshka=", ".join(map(str, first["matryoshka"])),
        prompts=f"Prompts: {prompts}." if prompts else "It has no prompts.",
    )


def _row(name: str, entry: Mapping[str, Any], lengths: list[str], types: list[str]) -> Iterator[str]:
    measured = entry["measured"]
    yield f"`{name}`"
    yield entry["precision"]
    yield f"{entry['size_mb']:.1f}"
    yield str(entry["dimensions"])
    yield _told(measured["peak_rss_mb"], ".0f")
    for tokens in lengths or [""]:
        yield _told(measured["speedup"].get(tokens), ".2f", "x")
    for kind in types or [""]:
        kept = [it["of_baseline"] for it in measured["quality"].values() if it["type"] == kind and "of_baseline" in it]
        yield _told(100 * min(kept) if kept else None, ".1f", " %")


def _told(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
