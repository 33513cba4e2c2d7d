"""Merging the adapter into the base model's full-precision weights; every other byte stays as it is.

Transformers does not save the model again, because it rewrites configurations and tokenizers in the words of its own
version. The base model's files are copied, and only trained tensors replaced in them.
"""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from embed_foundry import manifest
from embed_foundry.encoder import Vectors
from embed_foundry.errors import InputError, IntegrityError
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from stages.common.config.finetune import FinetuneSettings
from stages.common.sources import probe_texts
from stages.finetune.checkpoints import TENSORS_FILE
from stages.finetune.evaluate import encode
from stages.finetune.trained_model import HEADS_FILE

# Least cosine between the full-precision base model with its adapter and the merged model: only rounding differs.
PARITY_MIN = 0.99999
CONFIG, MODULES = "config.json", "modules.json"


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
        InputError: a trained tensor has no place in the base model's files.
        IntegrityError: the parity is below PARITY_MIN.
    """
    model, probes = load_model(base), probe_texts.read_texts()
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
    changed = {name: new for name, new in model.state_dict().items() if not torch.equal(new, before[name])}
    if not changed:
        raise IntegrityError(f"{adapter}: changes no tensor of the base model. This should not happen: report it.")
    # "0.model.layers…" is called "layers…" in the transformer's own file.
    body_name = next(name for name, part in model[0].named_children() if part is model[0].auto_model)
    changed = {re.sub(rf"^0\.{body_name}\.", "0.", name): tensor for name, tensor in changed.items()}
    del model
    write_merged(base, changed, out)
    merged = load_model(out)
    parity = round(float((expected * _encode_probes(merged, probes)).sum(axis=1).min()), 8)
    if not parity >= PARITY_MIN or not np.isfinite(expected).all():
        raise IntegrityError(
            f"{out}: the merged model's least cosine to the base model with its adapter is {parity}, expected at least "
            f"{PARITY_MIN}. This should not happen: report it with {adapter}."
        )
    return merged, parity


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


def write_merged(base: Path, changed: dict[str, torch.Tensor], out: Path) -> None:
    """Copy the base model's files with the changed tensors in them; weights become fp32.

    Args:
        base: the base model's folder.
        changed: "<module's number>.<name in its file>" -> tensor.
        out: the new folder.

    Raises:
        InputError: a tensor has no place in the files.
    """
    modules = json.loads((base / MODULES).read_text(encoding="utf-8"))
    numbers = {str(entry["path"]): str(index) for index, entry in enumerate(modules)}
    remaining = dict(changed)
    for name in manifest.files_of(base):
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        number = numbers.get("" if "/" not in name else name.rpartition("/")[0])
        if name.endswith(".safetensors") and number is not None:
            _replace_tensors(base / name, target, number, remaining)
        else:
            shutil.copyfile(base / name, target)
    if remaining:
        raise InputError(
            f"{base}: its files have no tensor {sorted(remaining)[0]} to merge into. Take another base model."
        )
    _declare_fp32(out / str(modules[0]["path"]) / CONFIG)


def _replace_tensors(source: Path, target: Path, number: str, remaining: dict[str, torch.Tensor]) -> None:
    """Copy one file with the changed tensors of a module, which are taken out of `remaining`."""
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(source)
    for name in tensors:
        # A model with a task head stores the body's tensors under the architecture's name.
        candidates = (f"{number}.{name}", f"{number}.{name.partition('.')[2]}")
        if key := next((key for key in candidates if key in remaining), None):
            tensors[name] = remaining.pop(key)
        tensors[name] = tensors[name].float().contiguous() if tensors[name].is_floating_point() else tensors[name]
    save_file(tensors, target, metadata)


def _declare_fp32(path: Path) -> None:
    """Make config.json declare fp32 where it declares a type of its weights."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    declared = {key: "float32" for key in ("dtype", "torch_dtype") if settings.get(key, "float32") != "float32"}
    if declared:
        path.write_bytes(manifest.canonical(settings | declared))
