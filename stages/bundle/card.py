"""The model card: the bundle's README.md, with the metadata that the Hugging Face hub reads."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from embed_foundry.encoders.kinds import KINDS

from stages.bundle.licences import HUB
from stages.common.records.bundle import BundleRecord, BundleVariant

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

# Which files a hub repository stores by LFS. Without this file the hub adds its own, which no manifest lists.
# Git changes no line ends, and keeps large files in LFS.
ATTRIBUTES = "* -text\n" + "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in ("*.bin", "*.litertlm", "*.model", "*.onnx", "*.safetensors", "*.tflite", "*.whl", "tokenizer.json")
)
CERTIFY = (
    "**Speed and memory are not certified for this target**: {}. On such a host, run `embed-foundry certify .`, which "
    "measures them there."
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

`embed-foundry explain .` says which variant is opened on your host and why; `embed-foundry verify . --key KEY` checks
who signed this.

| variant | weights | MB | vectors | peak MB | {lengths} | {types} |
|---|---|---|---|---|{rules}|
{rows}

Speed-ups are medians of paired ratios to `{baseline}` on {machine}, one text per call. Quality is the score relative to
`{baseline}`'s, the lowest of each task type. Only variants with the same space id may share an index: {spaces}.
{uncertified}
Texts over {max_tokens} tokens are truncated, with a warning. Vectors may be truncated to {matryoshka} dimensions and
renormalised.
{prompts}

Evidence: `evidence/` (scores, latency, the verdict with every limit and margin, mixed indexes, the report).
Materials: `bom.cdx.json`. Terms: `NOTICE` and `LICENSE`.
"""


def render(record: BundleRecord) -> str:
    """Return the card's text."""
    from huggingface_hub import ModelCard

    head = f"---\n{_build_metadata(record).to_yaml()}\n---\n"
    return str(ModelCard(head + _render_body(record)))


def _build_metadata(record: BundleRecord) -> "ModelCardData":
    """Return the metadata; its results are those of the target's first choice, which is what `open_bundle` opens."""
    from huggingface_hub import EvalResult, ModelCardData

    model, licence, first = record.model, record.model.license, record.first
    hub_licence = HUB.get(licence.name)
    # The hub's word for what a variant is to its base model.
    finetuned = record.sources.weights.made_by.startswith("finetune")
    relation = "finetune" if finetuned else "quantized" if first.bits < 16 else None
    terms = {"license": hub_licence} if hub_licence else {"license": "other", "license_name": licence.name}
    results = [
        EvalResult(
            task_type=figure.type,
            dataset_type=task,
            dataset_name=task,
            metric_type=figure.metric,
            metric_value=round(100 * figure.score, 4),
        )
        for task, figure in sorted(first.measured.quality.items())
    ]
    return ModelCardData(
        model_name=f"{model.name}-{record.target.name}-{record.selection.order[0]}",
        base_model=model.repo,
        base_model_relation=relation,
        pipeline_tag="sentence-similarity",
        tags=sorted({"feature-extraction", "embeddings", *(variant.kind for variant in record.variants.values())}),
        eval_results=results or None,
        license_link=None if hub_licence == "apache-2.0" else licence.url,
        **terms,
    )


def _render_body(record: BundleRecord) -> str:
    model, variants, first = record.model, record.variants, record.first
    lengths = sorted({tokens for variant in variants.values() for tokens in variant.measured.speedup})
    types = sorted({figure.type for variant in variants.values() for figure in variant.measured.quality.values()})
    machine, differences = record.measured_on.machine, record.measured_on.uncertified
    prompts = ", ".join(f"`{name}`" for name in sorted(first.prompts))
    extras = sorted({KINDS[variant.kind].extra for variant in variants.values()} - {""})
    return BODY.format(
        model=model.name,
        target=record.target.name,
        repo=model.repo,
        revision=model.revision,
        count=len(variants),
        wheel=record.runtime.partition("/")[2],
        extras=f"[{','.join(extras)}]" if extras else "",
        dimensions=first.dimensions,
        lengths=" | ".join(f"{tokens} tokens" for tokens in lengths) or "speed",
        types=" | ".join(types) or "quality",
        rules="---|" * (max(1, len(lengths)) + max(1, len(types)) - 1) + "---",
        rows="\n".join(f"| {' | '.join(_cells(name, variants[name], lengths, types))} |" for name in variants),
        baseline=record.baseline,
        machine=machine.cpu if machine else "a machine that was not recorded",
        uncertified=f"\n{CERTIFY.format('; '.join(differences))}\n" if differences else "",
        spaces="; ".join(f"`{space}`: {', '.join(names)}" for space, names in record.selection.fallback.items()),
        max_tokens=first.max_tokens,
        matryoshka=", ".join(map(str, first.matryoshka)),
        prompts=f"Prompts: {prompts}." if prompts else "It has no prompts.",
    )


def _cells(name: str, variant: BundleVariant, lengths: list[int], types: list[str]) -> Iterator[str]:
    """Yield the cells of a variant's row."""
    measured = variant.measured
    yield f"`{name}`"
    yield variant.precision
    yield f"{variant.size_mb:.1f}"
    yield str(variant.dimensions)
    yield _format(measured.peak_rss_mb, ".0f")
    for tokens in lengths:
        yield _format(measured.speedup.get(tokens), ".2f", "x")
    if not lengths:
        yield _format(None)
    for task_type in types or [""]:
        figures = [figure for figure in measured.quality.values() if figure.type == task_type]
        ratios = [figure.of_baseline for figure in figures if figure.of_baseline is not None]
        yield _format(100 * min(ratios) if ratios else None, ".1f", " %")


def _format(value: float | None, form: str = "", unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
