"""Ways in which an export to LiteRT has gone wrong without an error, to be planted into convert/graph/fixed.py."""

import torch
from transformers.models.gemma3.modeling_gemma3 import repeat_kv

from stages.convert.graph import fixed


def attend_by_copies(_module, query, key, value, attention_mask, scaling, **_):
    """Attend as transformers does: a copy of the keys for each query head."""
    groups = query.shape[1] // key.shape[1]
    scores = torch.matmul(query, repeat_kv(key, groups).transpose(2, 3)) * scaling + attention_mask[0].mask
    return torch.matmul(torch.softmax(scores, -1), repeat_kv(value, groups)).transpose(1, 2).contiguous(), None


def attend_with_infinite_masks(module, query, key, value, attention_mask, scaling, **_):
    """Attend with masks of -inf."""
    blocks = [
        fixed.Block(block.rows, block.keys, torch.where(block.mask < -1, -torch.inf, 0.0)) for block in attention_mask
    ]
    return ATTEND(module, query, key, value, blocks, scaling)


ATTEND = fixed.attend
TRAPS = {
    "keys copied for each query head": (
        "attend",
        attend_by_copies,
        [32],
        r"has a cosine of 0\.\d+ to the base model",
    ),
    "masks of -inf": ("attend", attend_with_infinite_masks, [300], "has a cosine of nan to the base model"),
    "a window that shrank": (
        "read_window_reach",
        lambda config: config.sliding_window // 2,
        [300],
        "has a cosine of 0",
    ),
}
