"""A variant's figures that meet every limit exactly, as their stages write them: the ground of the gate's tests."""

import copy
import json
from pathlib import Path
from typing import Any

from embed_foundry import Variant, manifest
from pydantic import TypeAdapter

from stages import gate
from stages.common.config import Target
from stages.common.limits import Assessment, RatioBounds
from stages.common.records.base import Failure
from stages.common.records.evidence import VariantEvidence
from stages.common.records.latency import VariantLatency
from stages.common.records.parity import Parity
from stages.common.records.scores import Samples, VariantScores
from stages.common.records.verdict import VariantVerdict, Verdict

EXACTLY = {"estimate": 1.0, "low": 1.0, "high": 1.0, "samples": 300}
GOOD: dict[str, Any] = {
    "size_mb": 20.0,
    "dimensions": 384,
    "space_id": "a",
    "alone": [],
    "parity": {
        **{"cosine_mean": 0.99, "cosine_min": 0.95, "batch_shift_max": 0.01, "median_cosine_shift": 0.02},
        **{"texts": 50, "batch_rank_changes": 0, "median_cosine": 0.2, "similarity_spearman": 0.98},
    },
    "floor": {"Find": 0.1, "Sort": 0.2, "Rank": 0.3, "Rate": 0.1},
    "retention": {
        "384": {task: {**EXACTLY} for task in ("Find", "Sort", "Rank", "Rate")},
        "128": {"Find": {**EXACTLY}},
    },
    "quality": {
        "384": {
            "Find": {"type": "Retrieval", "main_score": 0.6, "metric": "ndcg_at_10", "samples": 100},
            "Sort": {"type": "Classification", "main_score": 0.8, "metric": "accuracy", "samples": 100},
            "Rank": {"type": "STS", "main_score": 0.7, "metric": "cosine_spearman", "samples": 100},
            "Rate": {"type": "STS", "main_score": 0.5, "metric": "cosine_spearman", "samples": 100},
        },
        "128": {"Find": {"type": "Retrieval", "main_score": 0.4, "metric": "ndcg_at_10", "samples": 100}},
    },
    "latency": {
        "lengths": {
            "32": {
                **{"speedup": {"median": 2.0, "low": 2.0, "high": 2.0}, "median_ms": 5.0, "n": 60},
                "after_pause_ms": 6.0,
            },
            "128": {
                **{"speedup": {"median": 1.5, "low": 1.5, "high": 1.5}, "median_ms": 9.0, "n": 60},
                "after_pause_ms": 10.0,
            },
        },
        "batch": {
            **{"size": 32, "tokens": 128, "n": 10, "median_ms": 100.0, "texts_per_s": 320.0, "tokens_per_s": 40960.0},
            "speedup": {"median": 1.2, "low": 1.2, "high": 1.2},
        },
        "cold_start_s": {"median": 2.0, "values": [2.0]},
        "peak_rss_mb": 300.0,
    },
    "unenforced": "",
    "crowded": False,
}
# Every limit, each exactly at the value that GOOD has.
EXACT: dict[str, Any] = {
    "size_mb_max": 20,
    "size_ratio_max": 1.0,
    "cosine_mean_min": 0.99,
    "cosine_min_min": 0.95,
    "batch_shift_max": 0.01,
    "median_cosine_shift_max": 0.02,
    "retention_min": {"Retrieval": 1.0, "Classification": 1.0, "STS": 1.0},
    "lead_min": {"STS": 1.0},
    "score_min": {"Retrieval": 0.6, "Classification": 0.8, "STS": 0.5},
    "speedup_min": {32: 2.0, 128: 1.5},
    "batch_speedup_min": 1.2,
    "peak_rss_mb_max": 300,
    "peak_rss_over_baseline_mb_max": 280,
    "cold_start_s_max": 2.0,
}
ABSENT = object()
MACHINE = {
    **{"cpu": "Some CPU", "arch": "x86_64", "flags": ["avx2"], "cpus": 2, "cores": 2},
    **{"quota_cpus": None, "memory_gib": 8, "os": "Linux"},
}
HOST = {"load_before": 0.1, "load_after": 0.1, "others_cpus": 0.02, "steal_s": 0.25, "crowded": False}


def latency_report(variants: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the content of latency.json, measured on a machine that is nowhere."""
    return {
        "machine": MACHINE,
        "machine_digest": "0" * 64,
        "threads": 2,
        "baseline": "fp32",
        "host": HOST,
        "quota": {"cpus": None, "enforced": False},
        "budget_s": 300,
        "series": [],
        "peak_gops": {},
        "operations": {},
        "variants": variants,
    } | changes


def target(limits: dict[str, Any] | None = None, candidates: tuple[str, ...] = ("it",), required: int = 1) -> Target:
    """Return a target with limits for the variant `it`; by default every limit that there is."""
    return Target.model_validate(
        {
            "name": "here",
            "resources": {"threads": 1, "memory_mb": 4096},
            "candidates": list(candidates),
            "required": required,
            "limits": {"it": EXACT if limits is None else limits},
        }
    )


def change(path: str, value: Any, figures: dict[str, Any] = GOOD) -> dict[str, Any]:
    """Return a copy of figures with the value at a dotted path replaced, or removed where it is ABSENT."""
    new = copy.deepcopy(figures)
    *parents, last = path.split(".")
    inner = new
    for part in parents:
        inner = inner[part]
    if value is ABSENT:
        del inner[last]
    else:
        inner[last] = value
    return new


def parse(kind: Any, value: Any) -> Any:
    """Return a JSON value as a record, as strictly as files are read."""
    return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)


def make_evidence(figures: dict[str, Any] = GOOD, samples: dict[str, Any] | None = None) -> VariantEvidence:
    """Return figures as `Evidence.load` reads them."""
    dimensions = figures["dimensions"]
    lengths = figures.get("matryoshka", (dimensions,))
    return VariantEvidence(
        folder=Path("nowhere"),
        variant=Variant("it", "onnx", "fp32", "m@0", figures["space_id"], dimensions, lengths, 256, {}, {}),
        size_mb=figures["size_mb"],
        parity=parse(Parity | Failure, figures["parity"]),
        scores=parse(VariantScores | Failure, figures["quality"]),
        samples=parse(Samples, samples) if samples else None,
        latency=parse(VariantLatency | Failure, figures["latency"]),
    )


def assess(figures: dict[str, Any] = GOOD, tasks: dict[str, str] | None = None) -> Assessment:
    """Return figures as what the gate decides on."""
    evidence = make_evidence(figures)
    return Assessment(
        evidence=evidence,
        tasks={task: score.type for task, score in evidence.full_scores.items()} if tasks is None else tasks,
        floor=figures["floor"],
        retention={
            int(length): {task: RatioBounds(**bounds) for task, bounds in ratios.items()}
            for length, ratios in figures["retention"].items()
        },
        space_id=figures["space_id"],
        alone=figures["alone"],
        prompt_mismatch="",
        unenforced=figures["unenforced"],
        crowded=figures["crowded"],
    )


def decide(aim: Target, baseline: str, figures: dict[str, dict[str, Any]]) -> Verdict:
    """Return the verdict on variants by their figures."""
    assessments = {name: assess(figure) for name, figure in figures.items()}
    tasks = {task: type_ for assessment in assessments.values() for task, type_ in assessment.tasks.items()}
    return gate.decide(aim, baseline, "0" * 64, {name: assess(figure, tasks) for name, figure in figures.items()})


def judge(figures: dict[str, Any], limits: dict[str, Any] | None = None, base: dict[str, Any] = GOOD) -> VariantVerdict:
    """Return the verdict on one variant, which is also what becomes of a release that needs just this one."""
    verdict = decide(target(limits), "fp32", {"fp32": base, "it": figures})
    assert verdict.release.passes == verdict.variants["it"].passes, verdict.release
    assert Verdict.model_validate_json(verdict.dump()) == verdict
    assert json.loads(verdict.dump())["variants"]["it"]["passes"] == verdict.variants["it"].passes
    manifest.canonical(verdict.model_dump(mode="json"))
    return verdict.variants["it"]
