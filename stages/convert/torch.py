"""PyTorch reference variants: the base model's own files, with the weights cast where the precision asks for it."""

import shutil
from pathlib import Path

from embed_foundry import manifest

from stages.common.recipes import TorchVariant
from stages.convert import Draft

WEIGHTS = ".safetensors"


def convert(base: Path, recipe: TorchVariant, work: Path) -> Draft:
    """Copy the base model byte for byte, except weights that are cast to bf16.

    Nothing is loaded into transformers and saved again: re-saving changes configurations silently (Gemma3's
    sliding_window shrinks at every round).
    """
    folder = work / "model"
    for name in manifest.files_of(base):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if recipe.precision == "bf16" and name.endswith(WEIGHTS):
            _cast(base / name, target)
        else:
            shutil.copyfile(base / name, target)
    return Draft(files={"model": "model"}, dimensions=_dimensions(folder))


def _cast(source: Path, target: Path) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    tensors = {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(source).items()
    }
    save_file(tensors, target, metadata)


def _dimensions(folder: Path) -> int:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return int(model.get_embedding_dimension())
