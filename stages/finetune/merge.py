"""Merging the adapter into the base model's full-precision weights; every other byte stays as it is.

Transformers does not save the model again, because it rewrites configurations and tokenizers in the words of its own
version. The base model's files are copied, and only trained tensors replaced in them.
"""

import json
import shutil
import warnings
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from embed_foundry import manifest
from embed_foundry.encoders.vectors import Vectors
from embed_foundry.errors import IntegrityError
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.common.sources import probe_texts
from stages.common.sources.base_model.layout import read_modules
from stages.common.sources.base_model.weights import BODY, read_weights
from stages.finetune.checkpoints import TENSORS_FILE
from stages.finetune.evaluate import encode
from stages.finetune.tensor_places import StoredTensor, find_stored, read_values, require_places
from stages.finetune.trained_model import HEADS_FILE, add_adapter

# Least cosine between the full-precision base model with its adapter and the merged model: only rounding differs.
PARITY_MIN = 0.99999
CONFIG = "config.json"


def merge_adapter(config: FinetuneSettings, base: Path, adapter: Path, out: Path) -> tuple[SentenceTransformer, float]:
    """Write the merged model's folder, and return the model as loaded from it with its parity.

    Args:
        config: the training.
        base: the base model's folder.
        adapter: what `trained_model.export_tensors` wrote.
        out: the merged model's folder; gets every file of `base` but its manifest.

    Returns:
        The model on the CPU in fp32, and the least cosine over the probe texts between the base model with the adapter
        beside its weights (full: with the trained weights in memory) and the merged one.

    Raises:
        InputError: a trained tensor has no place in the base model's files, though `require_mergeable` saw none such.
        IntegrityError: the parity is below PARITY_MIN.
    """
    model, probes = load_model(base), probe_texts.read_texts()
    random = _find_random(model, base)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in (HEADS_FILE, TENSORS_FILE):
        if (adapter / name).exists():
            model.load_state_dict(load_file(adapter / name), strict=False)
    if config.method == "full":
        expected = _encode_probes(model, probes)
    else:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # PEFT asks by a deprecated name
            body = PeftModel.from_pretrained(model[0].auto_model, str(adapter)).eval()
        expected = _encode_probes(model, probes)
        body.merge_and_unload(safe_merge=True)
    changed = [
        name
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name]) and name not in random
    ]
    if not changed:
        raise IntegrityError(f"{adapter}: changes no tensor of the base model. This should not happen: report it.")
    values = read_values(model, find_stored(model, base, changed))
    del model
    write_merged(base, values, out)
    merged = load_model(out)
    parity = round(float((expected * _encode_probes(merged, probes)).sum(axis=1).min()), 8)
    if not parity >= PARITY_MIN or not np.isfinite(expected).all():
        raise IntegrityError(
            f"{out}: the merged model's least cosine to the base model with its adapter is {parity}, expected at least "
            f"{PARITY_MIN}. This should not happen: report it with {adapter}."
        )
    return merged, parity


def require_mergeable(config: FinetuneSettings, model: Model, base: Path) -> None:
    """Check, before any work, that what is to be trained can be merged into the base model's files.

    Raises:
        InputError: it cannot, or the architecture's layers are not configured.
    """
    names = _list_trained(config, model, base)
    plain = load_model(base)
    random = _find_random(plain, base)
    require_places(plain, base, [name for name in names if name not in random])


def _list_trained(config: FinetuneSettings, model: Model, base: Path) -> list[str]:
    """Return the names of the base model's tensors that a merge would change."""
    trained = load_model(base)
    if config.method != "full":
        add_adapter(trained, config, model)
    names = [name for name, _ in trained.named_parameters()]
    body = [name for name in names if name.startswith(BODY)]
    if config.method != "full":
        wrapped = ".base_layer.weight"
        body = [f"{name.removesuffix(wrapped)}.weight" for name in body if name.endswith(wrapped)]
    return body + [name for name in names if config.heads and not name.startswith("0.")]


def _find_random(model: SentenceTransformer, base: Path) -> set[str]:
    """Return the names of the tensors that the files lack, such as BERT's pooler: no vector depends on them."""
    return {f"{BODY}{name}" for name in read_weights(model, base).random}


def load_model(folder: Path) -> SentenceTransformer:
    """Return a folder's model on the CPU in fp32, without prompts."""
    model = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    ).eval()
    model.prompts, model.default_prompt_name = {}, None
    return model


def _encode_probes(model: SentenceTransformer, probes: list[str]) -> Vectors:
    """Return the probes' vectors, and that of all of them as one text, alone because it would pad the others."""
    return np.concatenate([encode(model, probes, None), encode(model, [" ".join(probes)], None)])


def write_merged(base: Path, changed: dict[StoredTensor, torch.Tensor], out: Path) -> None:
    """Copy the base model's files with the changed tensors in them; weights become fp32.

    Args:
        base: the base model's folder.
        changed: tensor of its files -> new content.
        out: the new folder.
    """
    modules = read_modules(base)
    folders = {PurePosixPath(module.path) for module in modules}
    for name in manifest.files_of(base):
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors") and PurePosixPath(name).parent in folders:
            _replace_tensors(base / name, target, {old.name: new for old, new in changed.items() if old.file == name})
        else:
            shutil.copyfile(base / name, target)
    _declare_fp32(out / modules[0].path / CONFIG)


def _replace_tensors(source: Path, target: Path, changed: dict[str, torch.Tensor]) -> None:
    """Copy one file with its changed tensors."""
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(source) | changed
    fp32 = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in fp32.items()}, target, metadata)


def _declare_fp32(path: Path) -> None:
    """Make config.json declare fp32 where it declares a type of its weights."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    declared = {key: "float32" for key in ("dtype", "torch_dtype") if settings.get(key, "float32") != "float32"}
    if declared:
        path.write_bytes(manifest.canonical(settings | declared))
