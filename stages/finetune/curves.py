"""The curves of a training, from the trainer's log."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.common.contract.tables import write_csv

# The trainer's log, in order. Each entry has its step, and either loss, or eval_loss, eval_ndcg and eval_<dimension>.
History = Sequence[Mapping[str, float]]


def write_curves(history: History, folder: Path) -> None:
    """Write train.csv (step, loss) and dev.csv (step, loss, ndcg and ndcg_<dimension>)."""
    write_csv(folder / "train.csv", ("step", "loss"), [(row["step"], row["loss"]) for row in history if "loss" in row])
    evaluations = select_evaluations(history)
    columns = [name for name in evaluations[0] if name.removeprefix("eval_").isdecimal()]
    columns.sort(key=_parse_dimension, reverse=True)
    header = ("step", "loss", "ndcg", *(f"ndcg_{_parse_dimension(name)}" for name in columns))
    rows = [(row["step"], row["eval_loss"], row["eval_ndcg"], *(row[name] for name in columns)) for row in evaluations]
    write_csv(folder / "dev.csv", header, rows)


def select_evaluations(history: History) -> History:
    """Return the log's evaluations of the dev split."""
    return [row for row in history if "eval_ndcg" in row and "eval_loss" in row]


def _parse_dimension(name: str) -> int:
    return int(name.removeprefix("eval_"))
