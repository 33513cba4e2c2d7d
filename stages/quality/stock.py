"""Stock mteb tasks: mteb's own class, metadata, prompts and settings, with the data that the data stage wrote.

TASK/[SUBSET/]SPLIT.jsonl                                          rows
TASK/[SUBSET/][SPLIT/]corpus.jsonl queries.jsonl qrels.tsv         retrieval, and where a task has them
                       ranked.jsonl changed.jsonl                  documents to rank; changed relevance (FollowIR)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def task(record: Mapping[str, Any], folder: Path) -> Any:  # noqa: ANN401 - mteb has no types
    """Return the stock task of one record, restricted to its splits and subsets, with the data of its folder.

    Args:
        record: an entry of tasks.json whose package is mteb.
        folder: the task's files.

    Raises:
        FileNotFoundError: a file is missing.
    """
    import mteb
    from datasets import DatasetDict
    from mteb.abstasks import AbsTaskRetrieval

    subsets, splits = list(record["languages"]), list(record["splits"])
    made = mteb.get_task(record["name"], eval_splits=splits, hf_subsets=subsets)
    # mteb's results name the revision: of a user's files it must not be the hub's.
    pinned = {**made.metadata.dataset, "revision": record["revision"]}
    made.metadata = made.metadata.model_copy(update={"dataset": pinned})
    parallel = getattr(made, "parallel_subsets", False)
    several = made.metadata.is_multilingual and not parallel
    loaded: dict[str, Any] = {}
    for subset in subsets if several else ["default"]:
        at = folder / subset if several else folder
        if isinstance(made, AbsTaskRetrieval):
            loaded[subset] = {split: retrieval(at / split if len(splits) > 1 else at) for split in splits}
        else:
            names = dict.fromkeys([*([made.train_split] if hasattr(made, "train_split") else []), *splits])
            loaded[subset] = DatasetDict({name: lines(at / f"{name}.jsonl") for name in names})
    made.dataset = loaded if several or isinstance(made, AbsTaskRetrieval) else loaded["default"]
    made.data_loaded = True
    if (folder / "changed.jsonl").is_file():
        _instructions(made, {row["query-id"]: row["corpus-ids"] for row in lines(folder / "changed.jsonl")})
    return made


def _instructions(made: Any, changed: Mapping[str, list[str]]) -> None:  # noqa: ANN401
    """Give a FollowIR task its changed relevance: mteb's own method would ask the hub for it while it scores."""
    from mteb._evaluators.retrieval_metrics import evaluate_p_mrr_change

    def scores(_: object, relevant: Any, results: Any, **__: object) -> Any:  # noqa: ANN401
        return evaluate_p_mrr_change(relevant, results, changed, made.k_values)

    made.task_specific_scores = scores


def retrieval(folder: Path) -> dict[str, Any]:
    """Return one split of a retrieval task as mteb takes it."""
    relevant: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").split("\n"):
        if line:
            query, document, score = line.split("\t")
            relevant.setdefault(query, {})[document] = int(score)
    ranked = folder / "ranked.jsonl"
    return {
        "queries": lines(folder / "queries.jsonl"),
        "corpus": lines(folder / "corpus.jsonl"),
        "relevant_docs": relevant,
        "top_ranked": {row["query-id"]: row["corpus-ids"] for row in lines(ranked)} if ranked.is_file() else None,
    }


def lines(path: Path) -> Any:  # noqa: ANN401
    """Return the rows of a JSON lines file as a Dataset."""
    from datasets import Dataset

    with path.open(encoding="utf-8", newline="\n") as file:
        return Dataset.from_list([json.loads(line) for line in file])
