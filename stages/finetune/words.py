"""The curves of a training, and what they and the evaluation say in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from stages.common.contract.tables import write_csv

# Dev loss over its least by this part is a rise; a train loss under this part of the dev loss is a gap.
RISE, GAP = 1.05, 0.5
# One batch says little, the last one of an epoch least: it is small, so its loss is.
RECENT = 5


def curves(history: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Write train.csv (step, loss) and dev.csv (step, loss, ndcg and ndcg_<dimension>)."""
    write_csv(folder / "train.csv", ("step", "loss"), [(row["step"], row["loss"]) for row in history if "loss" in row])
    looks = _looks(history)
    lengths = sorted((name for name in looks[0] if name.removeprefix("eval_").isdecimal()), key=_length, reverse=True)
    header = ("step", "loss", "ndcg", *(f"ndcg_{_length(name)}" for name in lengths))
    rows = [(row["step"], row["eval_loss"], row["eval_ndcg"], *(row[name] for name in lengths)) for row in looks]
    write_csv(folder / "dev.csv", header, rows)


def of_examples(cut: int, texts: int, tokens: int) -> list[str]:
    """Return a sentence about texts that training cut, if there are any."""
    return [f"{cut} of {texts} training texts are longer than max_tokens {tokens} and were cut"] if cut else []


def of_training(history: Sequence[Mapping[str, float]], best: int, steps: int) -> list[str]:
    """Return sentences about how the training went; those that warn begin with "warning"."""
    looks, losses = _looks(history), [row["loss"] for row in history if "loss" in row]
    chosen = next(row for row in looks if row["step"] == best)
    lowest, last = min(looks, key=lambda row: row["eval_loss"]), looks[-1]
    found = [
        f"took the weights of step {best} of {steps}: dev ndcg@10 {chosen['eval_ndcg']:.4f} (before: "
        f"{looks[0]['eval_ndcg']:.4f}), dev loss {chosen['eval_loss']:.3f} (before: {looks[0]['eval_loss']:.3f})"
    ]
    if last["eval_loss"] > RISE * lowest["eval_loss"]:
        found.append(
            f"warning: overfitting: dev loss rose from {lowest['eval_loss']:.3f} at step {lowest['step']} to "
            f"{last['eval_loss']:.3f}; fewer epochs or a lower learning_rate"
        )
    recent = median(losses[-RECENT:]) if losses else last["eval_loss"]
    if recent < GAP * last["eval_loss"]:
        found.append(
            f"warning: overfitting: train loss {recent:.3f} is far below dev loss {last['eval_loss']:.3f}; "
            "more data, more dropout or a smaller rank"
        )
    if chosen["eval_ndcg"] <= looks[0]["eval_ndcg"]:
        found.append("warning: no checkpoint is better than the base model on the dev split; do not use this model")
    elif best == steps:
        found.append("the last step is the best one: more epochs may gain more")
    return found


def of_evaluation(report: Mapping[str, Any], forgetting_max: float) -> list[str]:
    """Return sentences about what fine-tuning gained on held-out data, and forgot."""
    found = []
    for length, row in report["retrieval"].items():
        sure = "" if row["low"] > 0 else "warning: not a sure gain: "
        found.append(
            f"{sure}held-out ndcg@10 at {length} dimensions {row['base']:.4f} -> {row['merged']:.4f}, "
            f"{row['gain']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] over {row['queries']} queries"
        )
    for name, row in report["graded"].items():
        lost = row["base"] - row["merged"]
        forgot = f"warning: forgot more than {forgetting_max:g}: " if lost > forgetting_max else ""
        found.append(f"{forgot}{name} {row['base']:.2f} -> {row['merged']:.2f}, {-lost:+.2f} points")
    return found


def _looks(history: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Return the log's evaluations."""
    return [row for row in history if "eval_ndcg" in row and "eval_loss" in row]


def _length(name: str) -> int:
    return int(name.removeprefix("eval_"))
