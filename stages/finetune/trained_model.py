"""The model that is trained: the base model with its adapter, and the files that are written of it."""

import json
from pathlib import Path

import torch
from embed_foundry import manifest
from embed_foundry.errors import InputError
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.finetune.checkpoints import TENSORS_FILE, trainable_tensors

HEADS_FILE = "heads.safetensors"


def prepare_model(config: FinetuneSettings, model: Model, base: Path) -> SentenceTransformer:
    """Return the base model in which only what is to be trained requires gradients.

    Raises:
        InputError: the architecture's layers are not configured, or the model has none of them; or texts would lose
            all their tokens.
    """
    trained = SentenceTransformer(
        str(base), device=choose_device(), local_files_only=True, model_kwargs=_loading_options(config)
    )
    limit_tokens(trained, min(config.max_tokens, model.max_tokens))
    trained.prompts, trained.default_prompt_name = {}, None
    body = trained[0].auto_model
    if config.method == "qlora":
        _keep_gradients(body)
    for parameter in trained.parameters():
        parameter.requires_grad_(False)
    if config.method == "full":
        body.requires_grad_(True)
    else:
        add_adapter(trained, config, model)
    if config.heads:
        for head in list(trained.children())[1:]:
            head.requires_grad_(True)
    if config.gradient_checkpointing:
        body.activation_checkpointing_enable({"use_reentrant": False})
        body.enable_input_require_grads()
    return trained


def limit_tokens(model: SentenceTransformer, tokens: int) -> None:
    """Truncate a model's texts to so many tokens.

    Raises:
        InputError: the special tokens alone are as many.
    """
    special = model.tokenizer.num_special_tokens_to_add()
    if tokens <= special:
        raise InputError(
            f"finetune.max_tokens is {tokens}, but {special} special tokens go into every text. Set it to at least "
            f"{special + 1}."
        )
    model.max_seq_length = tokens


def add_adapter(trained: SentenceTransformer, config: FinetuneSettings, model: Model) -> None:
    """Add a LoRA adapter to the configured layers.

    Raises:
        InputError: no layers are configured, or the model has none of them.
    """
    from peft import LoraConfig

    architecture = trained[0].auto_model.config.model_type
    layers = select_layers(config, architecture)
    settings = LoraConfig(
        task_type="FEATURE_EXTRACTION",
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=layers,
    )
    try:
        trained.add_adapter(settings)
    except ValueError as error:
        raise InputError(
            f"finetune.lora.layers.{architecture} {layers}: {model.repo} has none of them ({error})."
        ) from None


def select_layers(config: FinetuneSettings, architecture: str) -> list[str]:
    """Return the names of an architecture's layers that get an adapter.

    Raises:
        InputError: they are not configured.
    """
    if architecture not in config.lora.layers:
        raise InputError(
            f"finetune.lora.layers has layers of {', '.join(config.lora.layers)}; the model is {architecture!r}. Add "
            "its attention's linear layers in conf/finetune/lora.yaml, such as "
            f"{architecture}: [q_proj, k_proj, v_proj, o_proj]."
        )
    return config.lora.layers[architecture]


def export_tensors(trained: SentenceTransformer, config: FinetuneSettings, model: Model, out: Path) -> None:
    """Write the trained tensors: an adapter in PEFT's format, without a path of this machine, and heads beside it."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in trainable_tensors(trained).items()}
    if config.method == "full":
        save_file(tensors, out / TENSORS_FILE)
        return
    trained[0].auto_model.save_pretrained(str(out))
    path = out / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"base_model_name_or_path": model.repo, "revision": model.revision}
    settings["target_modules"].sort()  # PEFT writes a set, in the order of this process's hash seed
    path.write_bytes(manifest.canonical(settings))
    if heads := {name: tensor for name, tensor in tensors.items() if not name.startswith("0.")}:
        save_file(heads, out / HEADS_FILE)


def choose_device() -> str:
    """Return torch's name of the device that trains."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def uses_bf16(config: FinetuneSettings) -> bool:
    """Return whether activations are computed in bfloat16."""
    if config.precision == "auto":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    return config.precision == "bf16"


def _loading_options(config: FinetuneSettings) -> dict[str, object]:
    """Return transformers' options for loading the base weights."""
    if config.method != "qlora":
        return {"dtype": torch.float32}
    from transformers import BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if uses_bf16(config) else torch.float32,
    )
    return {"quantization_config": four_bit, "dtype": torch.float32}


def _keep_gradients(body: torch.nn.Module) -> None:
    """Keep 4-bit layers differentiable.

    On CPUs with AVX512-BF16 an evaluation packs their weights for a kernel that has no backward, and they stay packed:
    from then on, layers below get no gradient, without an error (bitsandbytes 0.50).
    """
    from bitsandbytes.nn.modules import Linear4bit

    for layer in body.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False
