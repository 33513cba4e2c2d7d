"""Sentences about a training and its result; those that warn begin with "warning"."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from stages.finetune.curves import History, select_evaluations
from stages.finetune.results import Evaluation
from stages.finetune.triplets import Triplet

# A dev loss over RISE times its lowest has risen; a train loss under GAP times the dev loss is far below it.
RISE, GAP = 1.05, 0.5
# The train loss is the median of this many: one batch says little, and the last one of an epoch is small.
RECENT = 5


def describe_left_out(counts: Mapping[str, int]) -> list[str]:
    """Return a sentence about examples, or what would have made some, that were left out, if there are any."""
    reasons = ", ".join(f"{count} ({reason})" for reason, count in counts.items())
    return [f"left out: {reasons}"] if counts else []


def describe_negatives(triplets: Sequence[Triplet]) -> list[str]:
    """Return a sentence about training examples by their number of negatives, if some have any."""
    counts = Counter(len(triplet.negatives) for triplet in triplets)
    numbers = ", ".join(f"{counts[number]} with {number}" for number in sorted(counts))
    return [f"negatives of their own: {numbers}"] if set(counts) - {0} else []


def describe_unread(unread: Mapping[str, int]) -> list[str]:
    """Return a sentence about files among the documents that are in no format that is read, if there are any.

    Args:
        unread: suffix -> number of files.
    """
    counts = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in unread.items())
    return [f"warning: files that are no documents were not read: {counts}"] if unread else []


def describe_truncation(truncated: int, texts: int, tokens: int) -> list[str]:
    """Return a sentence about training texts that were truncated, if there are any."""
    return [f"{truncated} of {texts} training texts exceed max_tokens {tokens} and were truncated"] if truncated else []


def describe_training(history: History, best_step: int, steps: int) -> list[str]:
    """Return sentences about how the training went."""
    evaluations, losses = select_evaluations(history), [row["loss"] for row in history if "loss" in row]
    first, last = evaluations[0], evaluations[-1]
    best = next(row for row in evaluations if row["step"] == best_step)
    lowest = min(evaluations, key=lambda row: row["eval_loss"])
    notes = [
        f"took the weights of step {best_step} of {steps}: dev ndcg@10 {best['eval_ndcg']:.4f} (before: "
        f"{first['eval_ndcg']:.4f}), dev loss {best['eval_loss']:.3f} (before: {first['eval_loss']:.3f})"
    ]
    if last["eval_loss"] > RISE * lowest["eval_loss"]:
        notes.append(
            f"warning: overfitting: dev loss rose from {lowest['eval_loss']:.3f} at step {lowest['step']} to "
            f"{last['eval_loss']:.3f}; fewer epochs or a lower learning_rate"
        )
    recent = median(losses[-RECENT:]) if losses else last["eval_loss"]
    if recent < GAP * last["eval_loss"]:
        notes.append(
            f"warning: overfitting: train loss {recent:.3f} is far below dev loss {last['eval_loss']:.3f}; "
            "more data, more dropout or a smaller rank"
        )
    if best["eval_ndcg"] <= first["eval_ndcg"]:
        notes.append("warning: no checkpoint is better than the base model on the dev split; do not use this model")
    elif best_step == steps:
        notes.append("the last step is the best one: more epochs may gain more")
    return notes


def describe_evaluation(evaluation: Evaluation, forgetting_max: float) -> list[str]:
    """Return sentences about what fine-tuning gained on held-out data, and what it forgot.

    Args:
        evaluation: the merged model compared with the base model.
        forgetting_max: points of graded similarity that may be lost without a warning.
    """
    notes = []
    for dimension, gain in evaluation.retrieval.items():
        warning = "" if gain.low > 0 else "warning: the gain is uncertain: "
        notes.append(
            f"{warning}held-out ndcg@10 at {dimension} dimensions {gain.base:.4f} -> {gain.merged:.4f}, "
            f"{gain.gain:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] over {gain.queries} queries"
        )
    for task, change in evaluation.graded.items():
        lost = change.base - change.merged
        warning = f"warning: forgot more than {forgetting_max:g}: " if lost > forgetting_max else ""
        notes.append(f"{warning}{task} {change.base:.2f} -> {change.merged:.2f}, {-lost:+.2f} points")
    return notes
