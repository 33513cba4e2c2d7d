"""The gate's figures as `dvc metrics` and `dvc plots` take them."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.gate.judge import at


def metrics(verdict: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the numbers that `dvc metrics diff` compares: by variant, then by what was measured."""
    rows: dict[str, Any] = {}
    for name, fact in facts.items():
        latency = fact["latency"]
        row: dict[str, Any] = {
            "size_mb": fact["size_mb"],
            "limits_missed": len(verdict["variants"][name]["reasons"]),
            "cosine_min": at(fact, "parity", "cosine_min"),
            "quality": {f"{task}@{dimension}": round(score, 6) for dimension, task, score in _scores(fact)},
            "speedup": {tokens: speedup for tokens, speedup, _ in _times(fact) if speedup is not None},
            "median_ms": {tokens: median for tokens, _, median in _times(fact) if median is not None},
            "peak_rss_mb": at(latency, "peak_rss_mb"),
            "cold_start_s": at(latency, "cold_start_s", "median"),
        }
        rows[name] = {key: value for key, value in row.items() if value not in (None, {})}
    return {"variants_passing": len(verdict["release"]["passing"]), **rows}


def _scores(fact: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield dimension, task and score, where there is a score."""
    if "error" not in fact["quality"]:
        for dimension in sorted(fact["quality"], key=int, reverse=True):
            for task, score in sorted(fact["quality"][dimension].items()):
                if (value := at(score, "main_score")) is not None:
                    yield dimension, task, value


def _times(fact: Mapping[str, Any]) -> Iterator[tuple[str, float | None, float | None]]:
    """Yield tokens, median speed-up and median milliseconds, by length."""
    for tokens, timed in sorted(fact["latency"].get("lengths", {}).items(), key=lambda item: int(item[0])):
        yield tokens, at(timed, "speedup", "median"), at(timed, "median_ms")


def write_quality(path: Path, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a row a variant, task and dimension: its score, and the bounds of its ratio to the baseline's."""
    header = ("variant", "task", "dimensions", "score", "retention", "low", "high")
    rows = []
    for name, fact in facts.items():
        for dimension, task, score in _scores(fact):
            bounds = fact["paired"].get(dimension, {}).get(task, {})
            rows.append(
                (name, task, dimension, round(score, 6), *(bounds.get(key) for key in ("estimate", "low", "high")))
            )
    _table(path, header, rows)


def write_latency(path: Path, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a row a variant and length: its median speed-up and milliseconds."""
    rows = [(name, tokens, speedup, median) for name, fact in facts.items() for tokens, speedup, median in _times(fact)]
    _table(path, ("variant", "tokens", "speedup", "median_ms"), rows)


def _table(path: Path, header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
