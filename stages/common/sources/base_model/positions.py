"""How many tokens a transformer has positions for, read from what it looks up, not from a list of architectures.

A model with learned positions reads one row of a table for each token. Which rows is the architecture's own rule: BERT
begins at row 0, RoBERTa, XLM-R and MPNet at row 2, so 514 rows allow 512 tokens. A short text of one token repeated
shows the rule: only a position table is read at rows that rise by one.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stages.common.sources.base_model.loaded import TokenLimit

if TYPE_CHECKING:
    from sentence_transformers.sentence_transformer.modules import Transformer

# Tokens of the text that shows the rule.
LENGTH = 8


class _LookupRecorder(TorchDispatchMode):  # type: ignore[misc]  # torch has no types here
    """Records how many rows each embedding table has and which of them are read.

    Attributes:
        lookups: (rows of the table, rows that were read).
    """

    def __init__(self) -> None:
        super().__init__()
        self.lookups: list[tuple[int, torch.Tensor]] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func is torch.ops.aten.embedding.default:
            self.lookups.append((args[0].shape[0], args[1].detach().clone()))
        return func(*args, **(kwargs or {}))


def measure_limit(transformer: "Transformer") -> TokenLimit:
    """Run the transformer on a short text and return the most tokens that it has positions for.

    Args:
        transformer: a model's first module, on the CPU.
    """
    features = transformer.preprocess(["a"])
    token = int(features["input_ids"][0, features["input_ids"].shape[1] // 2])
    ids = torch.full((1, LENGTH), token)
    features |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "token_type_ids" in features:
        features["token_type_ids"] = torch.zeros_like(ids)
    with torch.inference_mode(), _LookupRecorder() as recorder:
        transformer(features)
    limits = [rows - int(read.flatten()[0]) for rows, read in recorder.lookups if _rises(read)]
    if limits:
        return TokenLimit(tokens=min(limits), source="table")
    declared = getattr(transformer.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(declared, int) and declared > 0:  # XLNet says -1: no limit
        return TokenLimit(tokens=declared, source="configuration")
    return TokenLimit(tokens=None, source="none")


def _rises(read: torch.Tensor) -> bool:
    """Return whether the rows that were read are one a token, each the next of the table; Longformer pads behind them.

    Relative positions read a matrix of rows, one for each pair of tokens.
    """
    if read.shape[-1] != read.numel() or read.numel() < LENGTH:
        return False
    return bool((read.flatten()[:LENGTH].diff() == 1).all())
