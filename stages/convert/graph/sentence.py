"""A SentenceTransformer as one torch module from ids and mask to token vectors and the text's unit vector."""

from typing import TYPE_CHECKING

import torch
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn
from torch.nn import functional

from stages.convert.graph import embedding_gemma2, gemma3
from stages.convert.graph.onnx_model import SENTENCE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

# model_type -> the module that computes the same in a graph that runs faster.
ROOMS = {"embedding_gemma2_text": embedding_gemma2, "gemma3_text": gemma3}
# sentence-transformers' name of the token vectors among a text's features.
FEATURE = "token_embeddings"


class Sentence(nn.Module):
    """All modules of a SentenceTransformer, its transformer replaced where a faster one is written for export.

    Args:
        model: the SentenceTransformer, in fp32; its pooling is changed if it leaves prompts out.

    Attributes:
        pools_prompt: whether pooling includes a prompt's tokens; if not, `forward` takes their number.
    """

    def __init__(self, model: "SentenceTransformer") -> None:
        super().__init__()
        transformer, *heads = model
        self.room = _open_room(transformer.auto_model)
        self.transformer = transformer if self.room is None else None
        self.heads = nn.ModuleList(heads)
        self.poolings = [module for module in heads if isinstance(module, Pooling)]
        self.pools_prompt = all(pooling.include_prompt for pooling in self.poolings)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, prompt_length: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return token vectors [b, t, hidden] and unit vectors [b, dimensions].

        Args:
            input_ids: int64 [b, t].
            attention_mask: int64 [b, t], 0 for padding, which is to the right.
            prompt_length: int64 [b], tokens of the prompt, which pooling leaves out.
        """
        if self.room is not None:
            tokens = self.room(input_ids, attention_mask)
        else:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
            tokens = self.transformer(inputs)[FEATURE]  # type: ignore[misc]
        # int32: ONNX Runtime has no ArgMax of int64.
        features = {FEATURE: tokens, "attention_mask": attention_mask.to(torch.int32)}
        if prompt_length is not None:
            features["prompt_length"] = 1
            for pooling in self.poolings:
                pooling._exclude_prompt_from_mask = lambda mask, _: _leave_out_prompt(mask, prompt_length)
        for head in self.heads:
            features = head(features)
        return tokens, functional.normalize(features[SENTENCE], dim=-1)


def _open_room(model: "PreTrainedModel") -> nn.Module | None:
    room = ROOMS.get(model.config.model_type)
    return room.Encoder(model) if room and room.supports(model.config) else None


def _leave_out_prompt(mask: Tensor, prompt_length: Tensor) -> Tensor:
    """Return the mask [b, t] without the prompt's tokens; sentence-transformers' own takes one int for all rows."""
    return mask * (torch.arange(mask.shape[1])[None] >= prompt_length[:, None]).to(mask.dtype)
