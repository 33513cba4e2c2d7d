"""A variant's facts that meet every limit exactly, and what changes them: the ground of the gate's tests."""

import copy
from typing import Any

from embed_foundry import manifest

from stages import gate
from stages.common.config import Target

GOOD: dict[str, Any] = {
    "size_mb": 20.0,
    "dimensions": 384,
    "space_id": "a",
    "alone": [],
    "parity": {"cosine_mean": 0.99, "cosine_min": 0.95, "batch_shift_max": 0.01, "median_cosine_shift": 0.02},
    "floor": {"Find": 0.1, "Sort": 0.2, "Rank": 0.3, "Rate": 0.1},
    "paired": {
        "384": {
            task: {"estimate": 1.0, "low": 1.0, "high": 1.0, "se": 0.0, "samples": 300}
            for task in ("Find", "Sort", "Rank", "Rate")
        },
        "128": {"Find": {"estimate": 1.0, "low": 1.0, "high": 1.0, "se": 0.0, "samples": 300}},
    },
    "quality": {
        "384": {
            "Find": {"type": "Retrieval", "main_score": 0.6},
            "Sort": {"type": "Classification", "main_score": 0.8},
            "Rank": {"type": "STS", "main_score": 0.7},
            "Rate": {"type": "STS", "main_score": 0.5},
        },
        "128": {"Find": {"type": "Retrieval", "main_score": 0.4}},
    },
    "latency": {
        "lengths": {
            "32": {"speedup": {"median": 2.0, "low": 2.0, "high": 2.0}, "median_ms": 5.0, "n": 60},
            "128": {"speedup": {"median": 1.5, "low": 1.5, "high": 1.5}, "median_ms": 9.0, "n": 60},
        },
        "cold_start_s": {"median": 2.0, "values": [2.0]},
        "peak_rss_mb": 300.0,
    },
}
# Every limit, each exactly at the value that GOOD has.
EXACT: dict[str, Any] = {
    "size_mb_max": 20,
    "cosine_mean_min": 0.99,
    "cosine_min_min": 0.95,
    "batch_shift_max": 0.01,
    "median_cosine_shift_max": 0.02,
    "retention_min": {"Retrieval": 1.0, "Classification": 1.0, "STS": 1.0},
    "lead_min": {"STS": 1.0},
    "score_min": {"Retrieval": 0.6, "Classification": 0.8, "STS": 0.5},
    "speedup_min": {32: 2.0, 128: 1.5},
    "peak_rss_mb_max": 300,
    "cold_start_s_max": 2.0,
}
ABSENT = object()


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


def changed(path: str, value: Any, fact: dict[str, Any] = GOOD) -> dict[str, Any]:
    """Return a copy of a fact with the value at a dotted path replaced, or removed where it is ABSENT."""
    new = copy.deepcopy(fact)
    *parents, last = path.split(".")
    inner = new
    for part in parents:
        inner = inner[part]
    if value is ABSENT:
        del inner[last]
    else:
        inner[last] = value
    return new


def judged(fact: dict[str, Any], limits: dict[str, Any] | None = None, base: dict[str, Any] = GOOD) -> dict[str, Any]:
    """Return what the gate decides about a fact, which is also what becomes of a release that needs just this one."""
    verdict = gate.decide(target(limits), "fp32", {"fp32": base, "it": fact})
    assert verdict["release"]["passes"] == verdict["variants"]["it"]["passes"], verdict["release"]
    manifest.canonical(verdict)
    return verdict["variants"]["it"]
