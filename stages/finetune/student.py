"""The student: the base model as it is trained, with its adapter, and what is written of it."""

import json
from pathlib import Path
from typing import Any

import torch
from embed_foundry import manifest
from embed_foundry.errors import InputError
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.finetune.trainer import TRAINED, trained

HEADS = "heads.safetensors"


def prepare(config: FinetuneSettings, model: Model, base: Path) -> SentenceTransformer:
    """Return the base model with what is to be trained set to require gradients, and nothing else.

    Raises:
        InputError: the architecture's layers are not configured, or 4 bits are not possible here.
    """
    student = SentenceTransformer(str(base), device=device(), local_files_only=True, model_kwargs=_loading(config))
    student.max_seq_length = min(config.max_tokens, model.max_tokens)
    student.prompts, student.default_prompt_name = {}, None
    body = student[0].auto_model
    for parameter in student.parameters():
        parameter.requires_grad_(False)
    if config.method == "full":
        body.requires_grad_(True)
    else:
        _add_adapter(student, config, model)
    if config.heads:
        for head in list(student.children())[1:]:
            head.requires_grad_(True)
    if config.gradient_checkpointing:
        body.gradient_checkpointing_enable({"use_reentrant": False})
        body.enable_input_require_grads()
    return student


def layers(config: FinetuneSettings, kind: str) -> list[str]:
    """Return the names of an architecture's layers that get an adapter.

    Raises:
        InputError: they are not configured.
    """
    if kind not in config.lora.layers:
        raise InputError(
            f"finetune.lora.layers names {', '.join(config.lora.layers)}, the model is {kind!r}. Add its attention's "
            f"linear layers in conf/finetune/lora.yaml, such as {kind}: [q_proj, k_proj, v_proj, o_proj]."
        )
    return config.lora.layers[kind]


def export(student: SentenceTransformer, config: FinetuneSettings, model: Model, out: Path) -> None:
    """Write the trained tensors: the adapter in PEFT's format, without a path of this machine, and heads beside it."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in trained(student).items()}
    if config.method == "full":
        save_file(tensors, out / TRAINED)
        return
    body = student[0].auto_model
    body.save_pretrained(str(out))
    record = out / "adapter_config.json"
    origin = {"base_model_name_or_path": model.repo, "revision": model.revision}
    record.write_bytes(manifest.canonical(json.loads(record.read_text(encoding="utf-8")) | origin))
    if heads := {name: tensor for name, tensor in tensors.items() if not name.startswith("0.")}:
        save_file(heads, out / HEADS)


def device() -> str:
    """Return where training runs."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def bf16(config: FinetuneSettings) -> bool:
    """Return whether activations are computed in bfloat16."""
    if config.precision == "auto":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    return config.precision == "bf16"


def _loading(config: FinetuneSettings) -> dict[str, Any]:
    """Return how the base weights are loaded."""
    if config.method != "qlora":
        return {"dtype": torch.float32}
    from transformers import BitsAndBytesConfig

    computing = torch.bfloat16 if bf16(config) else torch.float32
    four = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=computing
    )
    return {"quantization_config": four, "dtype": torch.float32}


def _add_adapter(student: SentenceTransformer, config: FinetuneSettings, model: Model) -> None:
    from peft import LoraConfig

    kind = student[0].auto_model.config.model_type
    wanted = layers(config, kind)
    settings = LoraConfig(
        task_type="FEATURE_EXTRACTION",
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=wanted,
    )
    try:
        student.add_adapter(settings)
    except ValueError as error:
        raise InputError(f"finetune.lora.layers.{kind} {wanted}: {model.repo} has none of them ({error}).") from None
