"""Hard negatives: training texts that the base model mistakes for answers, mined by sentence-transformers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from datasets import Dataset
from embed_foundry.errors import InputError
from sentence_transformers.util import mine_hard_negatives

from stages.common.config.finetune import FinetuneSettings
from stages.finetune.evaluate import BATCH
from stages.finetune.merge import load_model
from stages.finetune.splits import Splits
from stages.finetune.trained_model import limit_tokens

# A candidate whose score is less than this share below the positive's may be an answer, too (NV-Retriever,
# arXiv:2407.15831).
MARGIN = 0.05
# Negatives are taken from this many nearest texts.
NEAREST = 50


def mine_negatives(config: FinetuneSettings, base: Path, splits: Splits, prompts: Mapping[str, str]) -> Splits:
    """Return the splits with up to `hard_negatives` mined negatives for each training example.

    Raises:
        InputError: the examples already have negatives, or none can be mined.
    """
    if any(triplet.negatives for triplet in splits.train):
        raise InputError("finetune.hard_negatives: the examples already have negatives. Set it to 0.")
    pairs = {
        "anchor": [triplet.anchor for triplet in splits.train],
        "positive": [triplet.positive for triplet in splits.train],
    }
    model = load_model(base)
    limit_tokens(model, min(config.max_tokens, model.max_seq_length))
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
        output_format="triplet",  # also where there are fewer
        batch_size=BATCH,
        verbose=False,
    )
    negatives: dict[tuple[str, str], list[str]] = {}
    for row in mined:
        negatives.setdefault((row["anchor"], row["positive"]), []).append(row["negative"])
    if not negatives:
        raise InputError(
            f"finetune.hard_negatives: none of {len(pairs['anchor'])} examples has a near text that is no answer. Set "
            "it to 0, or add examples."
        )
    train = [
        replace(triplet, negatives=tuple(negatives.get((triplet.anchor, triplet.positive), ())))
        for triplet in splits.train
    ]
    return replace(splits, train=train)
