"""What bundle.json says: the contract's facts, gathered from the figures that the gate judged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed_foundry import Variant, contract, manifest, selection

from stages.common.config import Model, Target

if TYPE_CHECKING:
    from stages.bundle import Sources

# Width of the weights by precision: what the memory tiers go by.
BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "q8": 8, "q4": 4, "mixed": 4}
# onnxruntime multiplies 8-bit activations and weights with VPMADDUBSW where x86 has nothing newer; its 16-bit sums
# saturate unless weights have 7 bits (reduce_range). The figures were judged without that.
VNNI = ("amx_int8", "avx512_vnni", "avx_vnni")


def gather(
    model: Model, target: Target, sources: "Sources", shipped: Mapping[str, Path], verdict: Mapping[str, Any]
) -> dict[str, Any]:
    """Return bundle.json but for the runtime's path and the content's digest.

    Args:
        model: the base model's configuration.
        target: the target.
        sources: the input folders, verified.
        shipped: name -> folder of the variants that passed, in the target's order.
        verdict: content of verdict.json.
    """
    latency, scores = _json(sources.latency / "latency.json"), _json(sources.quality / "scores.json")
    reference = _full(scores[verdict["baseline"]])
    variants = {
        name: _variant(folder, verdict["variants"][name], latency["variants"][name], _full(scores[name]), reference)
        for name, folder in shipped.items()
    }
    spaces: dict[str, list[str]] = {}
    for name, entry in variants.items():
        spaces.setdefault(entry["space_id"], []).append(name)
    return {
        "schema": contract.SCHEMA,
        "model": {
            "name": model.name,
            "repo": model.repo,
            "revision": model.revision,
            "license": model.license.model_dump(),
        },
        "target": target.model_dump(mode="json"),
        "baseline": verdict["baseline"],
        "selection": {"rule": selection.RULE, "order": list(shipped), "fallback": spaces},
        "variants": variants,
        "measured_on": {key: latency.get(key) for key in ("machine", "threads", "quota")},
        "sources": _sources(sources),
        "build": _build(sources, shipped),
    }


def validate(told: Mapping[str, Any], schema: bytes) -> None:
    """Check bundle.json's content against the contract: a fault is a mistake of this stage, hence a ValidationError."""
    from jsonschema import Draft202012Validator

    parsed = json.loads(schema)
    Draft202012Validator.check_schema(parsed)
    # As it will be read back: keys become strings.
    Draft202012Validator(parsed).validate(json.loads(manifest.canonical(told)))


def _variant(
    folder: Path,
    judged: Mapping[str, Any],
    timed: Mapping[str, Any],
    scores: Mapping[str, Any],
    reference: Mapping[str, Any],
) -> dict[str, Any]:
    variant, body = Variant.load(folder), manifest.read(folder)
    lengths = timed.get("lengths", {})
    return {
        "digest": body.digest,
        "kind": variant.kind,
        "precision": variant.precision,
        "bits": BITS[variant.precision],
        "device": "cpu",  # where all encoders run, and all figures were measured
        "cpu_any": _cpu_any(variant),
        "space_id": judged["space_id"],
        "dimensions": variant.dimensions,
        "matryoshka": list(variant.matryoshka),
        "max_tokens": variant.max_tokens,
        "prompts": variant.prompts,
        "size_mb": round(body.size / 1e6, 3),
        "measured": {
            "peak_rss_mb": timed.get("peak_rss_mb"),
            "cold_start_s": timed.get("cold_start_s", {}).get("median"),
            "median_ms": {tokens: at["median_ms"] for tokens, at in lengths.items() if "median_ms" in at},
            "speedup": {tokens: at["speedup"]["median"] for tokens, at in lengths.items() if "speedup" in at},
            "quality": {
                task: {"type": it["type"], "metric": it.get("metric", "main_score"), "score": it["main_score"]}
                | ({"of_baseline": round(it["main_score"] / base, 6)} if (base := _score(reference, task)) else {})
                for task, it in scores.items()
                if "main_score" in it
            },
        },
        "checks": judged["checks"],
    }


def _cpu_any(variant: Variant) -> dict[str, list[str]]:
    """Return the instruction sets of which an x86 CPU needs one to compute as the variant was judged."""
    settings = variant.recipe.get("quantize") or {}
    saturates = variant.kind == "onnx" and settings.get("dynamic") and not settings.get("reduce_range")
    return {"x86_64": list(VNNI)} if saturates else {}


def _sources(sources: "Sources") -> dict[str, Any]:
    weights, data = manifest.read(sources.weights), manifest.read(sources.data)
    tasks = _json(sources.data / "tasks.json")
    told = ("name", "type", "version", "license", "reference", "package")
    return {
        "weights": {
            "digest": weights.digest,
            "stage": weights.stage,
            "files": weights.hashes,
        },
        "data": {"digest": data.digest, "tasks": [{key: it[key] for key in told if it.get(key)} for it in tasks]},
        "requirements.lock": manifest.sha256(sources.project / "requirements.lock"),
    }


def _build(sources: "Sources", shipped: Mapping[str, Path]) -> dict[str, Any]:
    """Return the parameters of every step and the libraries that had a part in it, from the steps' own manifests."""
    steps = {name: manifest.read(getattr(sources, name)) for name in ("quality", "latency", "gate")}
    variants = {name: manifest.read(folder) for name, folder in shipped.items()}
    bodies = [manifest.read(sources.weights), manifest.read(sources.data), *variants.values(), *steps.values()]
    libraries = {(name, version) for body in bodies for name, version in body.libraries.items()}
    parameters = {name: body.parameters for name, body in steps.items()}
    parameters["weights"] = manifest.read(sources.weights).parameters
    parameters["gate"] = {key: value for key, value in parameters["gate"].items() if key != "target"}
    return {
        "parameters": parameters
        | {"variants": {name: body.parameters.get("variant") for name, body in variants.items()}},
        "libraries": [{"name": name, "version": version} for name, version in sorted(libraries)],
    }


def _full(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores at the largest dimension, by task."""
    return dict(scores[max(scores, key=int)]) if scores and all(key.isdigit() for key in scores) else {}


def _score(scores: Mapping[str, Any], task: str) -> float | None:
    value = scores.get(task, {}).get("main_score")
    return float(value) if value else None


def _json(path: Path) -> Any:  # noqa: ANN401
    return json.loads(path.read_text(encoding="utf-8"))
