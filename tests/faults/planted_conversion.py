"""`python -m stages.convert bf16` with a fault in it: `planted_conversion.py FAULT`, in a folder with params.yaml."""

import sys
from dataclasses import replace

import torch
from embed_foundry.encoders.torch import TorchEncoder
from safetensors.torch import load_file, save_file

from stages.common.contract.process import run_stage
from stages.convert import __main__ as door
from stages.convert import torch as converter

LAYER = "encoder.layer.3.attention.output.dense.weight"


def drift() -> None:
    """Write one of six layers with noise, as a wrong scale or a wrong rounding would leave it."""
    real = converter._cast_weights

    def cast(source, target, dtype):
        real(source, target, dtype)
        tensors = load_file(target)
        (name,) = [name for name in tensors if name.endswith(LAYER)]
        weight = tensors[name].float()
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * weight.std()
        save_file(tensors | {name: (weight + noise).to(tensors[name].dtype)}, target, {"format": "pt"})

    converter._cast_weights = cast


def reverse() -> None:
    """Give the texts of a call each other's vectors, from the last to the first."""
    real = TorchEncoder._embed

    def embed(self, rows, batch_size):
        embedding = real(self, rows, batch_size)
        return replace(embedding, vectors=embedding.vectors[::-1])

    TorchEncoder._embed = embed


FAULTS = {"drift": drift, "reverse": reverse}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    sys.argv[1:] = ["bf16"]
    run_stage(door._main)
