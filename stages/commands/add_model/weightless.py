"""Loading a model without its weights: every parameter is on the meta device, and what is computed from one is zero.

Shapes, tokenizer, positions and configuration are those of the real model, whatever its size; its numbers are not.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from stages.common.sources.base_model.loaded import Weights
from stages.common.sources.base_model.reading import load_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class _ZerosForMeta(TorchDispatchMode):  # type: ignore[misc]  # torch has no types here
    """Gives zeros on the CPU, of the right shape, for an operation of tensors with numbers and tensors without.

    What is computed from weights alone, such as a transposed matrix, stays without numbers, and so takes no memory.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = dict(kwargs or {})
        if _is_meta(kwargs.get("device")):
            kwargs["device"] = torch.device("cpu")
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device.type for tensor in tensors}) < 2:
            return func(*args, **kwargs)
        args, kwargs = pytree.tree_map(_to_meta, (args, kwargs))
        return pytree.tree_map(_to_zeros, func(*args, **kwargs))


@contextmanager
def zeros_for_weights() -> Iterator[None]:
    """Let a model that `load_without_weights` loaded before the block compute inside it."""
    with _ZerosForMeta():
        yield


def load_without_weights(folder: Path) -> "SentenceTransformer":
    """Load a SentenceTransformer of which only the headers of the weights' files are read.

    Raises:
        InputError: sentence-transformers cannot load it.
    """
    model = load_model(folder, device=None, model_kwargs={"device_map": "meta"})
    # Loading leaves buffers without numbers, too, such as the positions that a table is read at; a new model has them.
    transformer = model[0].auto_model
    with init_empty_weights(include_buffers=False):
        new = type(transformer)(transformer.config)
    for name, buffer in new.named_buffers():
        owner, _, attribute = name.rpartition(".")
        setattr(transformer.get_submodule(owner), attribute, buffer)
    return model


def count_weights(model: "SentenceTransformer", folder: Path) -> Weights:
    """Return how many weights a model has; which of them its files lack, only the files show."""
    return Weights(
        parameters=sum(weight.numel() for weight in model.parameters()),
        dtype=str(model.dtype).removeprefix("torch."),
        random=(),
        unread=(),
    )


def _is_meta(device: object) -> bool:
    return device is not None and torch.device(device).type == "meta"


def _to_meta(value: object) -> object:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _to_zeros(value: object) -> object:
    return torch.zeros_like(value, device="cpu") if isinstance(value, torch.Tensor) else value
