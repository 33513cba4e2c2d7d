"""A model's weights beside those in its files: what the files lack is random, what the model lacks is not read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from embed_foundry.errors import InputError

from stages.common.sources.base_model.layout import find_transformer
from stages.common.sources.base_model.loaded import Weights, shorten

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# What sentence-transformers puts before the names of the transformer's weights.
BODY = "0.model."


@dataclass(frozen=True)
class _Difference:
    """Names of the transformer's tensors.

    Attributes:
        missing: of its parameters and buffers, those that no file holds.
        unread: of the tensors in files, those that it has no place for.
    """

    missing: tuple[str, ...]
    unread: tuple[str, ...]


def read_weights(model: "SentenceTransformer", folder: Path) -> Weights:
    """Return what a loaded model's weights are, beside those in its files.

    Args:
        model: loaded from `folder`, on the CPU.
        folder: the model's folder.

    Raises:
        InputError: vectors depend on weights that no file holds, which transformers makes up, or a weight is not a
            finite number.
    """
    difference = _compare_with_files(model, folder)
    if used := _find_used(model, difference.missing):
        raise InputError(
            f"the files lack {shorten(used)}, which vectors depend on, so transformers would fill in random numbers. "
            "Take the files of the whole model: save it again with the class that it was trained with, or choose "
            "another model."
        )
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise InputError(
                f"the weight {name.removeprefix(BODY)} holds numbers that are not finite (NaN or infinity), and so "
                "would every vector. Take a checkpoint from before the training diverged, or get the file again."
            )
    return Weights(
        parameters=sum(weight.numel() for weight in model.parameters()),
        dtype=str(model.dtype).removeprefix("torch."),
        random=difference.missing,
        unread=difference.unread,
    )


def _compare_with_files(model: "SentenceTransformer", folder: Path) -> _Difference:
    """Compare by names, without reading the weights again: transformers knows how old and wrapped names read today."""
    transformer = model[0].auto_model
    _, report = type(transformer).from_pretrained(
        str(find_transformer(folder)),
        config=transformer.config,
        device_map="meta",
        local_files_only=True,
        output_loading_info=True,
    )
    return _Difference(tuple(sorted(report["missing_keys"])), tuple(sorted(report["unexpected_keys"])))


def _find_used(model: "SentenceTransformer", names: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of the transformer's tensors a vector depends on, by its gradient; BERT's pooler is none of them."""
    if not names:
        return ()
    parameters = dict(model[0].auto_model.named_parameters())
    with torch.enable_grad():
        vector = model(model.preprocess(["a"]))["sentence_embedding"]
        present = [name for name in names if name in parameters]
        gradients = torch.autograd.grad(vector.sum(), [parameters[name] for name in present], allow_unused=True)
    unused = {name for name, gradient in zip(present, gradients, strict=True) if gradient is None}
    return tuple(name for name in names if name not in unused)
