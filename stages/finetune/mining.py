"""Hard negatives: texts of the training split that the base model takes for answers, mined by sentence-transformers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from datasets import Dataset
from embed_foundry.errors import InputError
from sentence_transformers.util import mine_hard_negatives

from stages.common.config.finetune import FinetuneSettings
from stages.finetune import merge
from stages.finetune.evaluate import BATCH
from stages.finetune.triplets import Splits

# A candidate that scores above this part of the positive may be an answer, too (NV-Retriever, arXiv:2407.15831).
MARGIN = 0.05
# Nearest texts that negatives are taken from.
NEAREST = 50


def run(config: FinetuneSettings, base: Path, splits: Splits, prompts: Mapping[str, str]) -> Splits:
    """Return the splits with `hard_negatives` mined negatives for each training example.

    Examples for which so many cannot be found are left out of training.

    Raises:
        InputError: the examples have negatives already, or none can be mined.
    """
    if any(one.negatives for one in splits.train):
        raise InputError("finetune.hard_negatives: the examples bring their own negatives. Set it to 0.")
    pairs = {"anchor": [one.anchor for one in splits.train], "positive": [one.positive for one in splits.train]}
    model = merge.load(base)
    model.max_seq_length = min(config.max_tokens, model.max_seq_length)
    mined = mine_hard_negatives(
        Dataset.from_dict(pairs),
        model,
        anchor_column_name="anchor",
        positive_column_name="positive",
        query_prompt=prompts.get("anchor"),
        corpus_prompt=prompts.get("positive"),
        num_negatives=config.hard_negatives,
        range_max=min(NEAREST, len(splits.train) - 1),
        relative_margin=MARGIN,
        output_format="n-tuple",
        batch_size=BATCH,
        verbose=False,
    )
    names = [name for name in mined.column_names if name.startswith("negative")]
    found = {(row["anchor"], row["positive"]): tuple(row[name] for name in names) for row in mined}
    kept = [
        replace(one, negatives=found[one.anchor, one.positive])
        for one in splits.train
        if (one.anchor, one.positive) in found
    ]
    if not kept:
        raise InputError(
            f"finetune.hard_negatives: {len(pairs['anchor'])} examples have no {config.hard_negatives} texts that are "
            "near and no answer. Lower it to 0, or give more examples."
        )
    dropped = splits.dropped | {"train: too few negatives": len(splits.train) - len(kept)}
    return replace(splits, train=kept, dropped=dropped)
