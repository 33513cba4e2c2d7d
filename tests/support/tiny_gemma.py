"""EmbeddingGemma's architecture in a megabyte: bidirectional Gemma3, one full layer in three, two Dense heads."""

import shutil
from pathlib import Path
from typing import Any

from embed_foundry import manifest

WINDOW = 512
SIZES: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 96,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "max_position_embeddings": 1024,
    "sliding_window": WINDOW,
    "use_bidirectional_attention": True,
    "hidden_activation": "gelu_pytorch_tanh",
    "pad_token_id": 0,
    "bos_token_id": 101,
    "eos_token_id": 102,
}


def write(folder: Path, tokenizer: Path, **changes: Any) -> Path:
    """Write a SentenceTransformer folder with random weights, and its manifest; return the folder.

    Args:
        folder: where to.
        tokenizer: a tokenizer.json to borrow.
        changes: other values of the transformers configuration.
    """
    import torch  # here: every test process loads this module, and most build no model
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import Gemma3TextConfig, Gemma3TextModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    raw = folder.with_name(f"{folder.name}.raw")
    model = Gemma3TextModel(Gemma3TextConfig(**SIZES | changes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Sharp attention, so that a wrong window or mask shows; other weights as large as trained ones.
            weight.copy_(torch.randn_like(weight) * (0.5 if "norm" in name else weight.shape[-1] ** -0.5))
    model.save_pretrained(raw)
    PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(raw)
    heads = [
        modules.Dense(96, 128, bias=False, activation_function=torch.nn.Identity()),
        modules.Dense(128, 48, bias=False, activation_function=torch.nn.Identity()),
    ]
    body = modules.Transformer(str(raw), max_seq_length=1024)
    SentenceTransformer(modules=[body, modules.Pooling(96), *heads, modules.Normalize()], device="cpu").save(
        str(folder), create_model_card=False
    )
    manifest.write(folder, {"stage": "download"})
    return folder


def copy_with_loud_tokens(folder: Path, out: Path) -> None:
    """Copy a model with token vectors that fit into fp16, but whose scaled copies inside the model overflow it."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, out)
    path = out / "model.safetensors"
    weights = load_file(path)
    weights["embed_tokens.weight"] *= 30_000 / weights["embed_tokens.weight"].abs().max()
    save_file(weights, path, {"format": "pt"})
    manifest.write(out, {"stage": "download"})
