"""EmbeddingGemma 2 in a megabyte: the multimodal checkpoint of transformers in a SentenceTransformer folder."""

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import (
    EmbeddingGemma2Config,
    EmbeddingGemma2Model,
    EmbeddingGemma2TextConfig,
    EmbeddingGemma2TextModel,
)

from stages.common.config import Model
from support import architectures, tiny_model

DIMENSIONS, WINDOW, POSITIONS = 48, 16, 4096
TEXT: dict[str, Any] = {
    "vocab_size": architectures.ROWS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "sliding_window_pattern": 2,
    "head_dim": 16,
    "global_head_dim": 32,
    "sliding_window": WINDOW,
    "hidden_size_per_layer_input": 32,
    "embedding_dim": DIMENSIONS,
    "max_position_embeddings": POSITIONS,
    "eos_token_id": 2,
    "bos_token_id": 1,
}
TOWER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = TOWER | {"model_type": "gemma4_vision", "num_key_value_heads": 2, "head_dim": 16}
AUDIO = TOWER | {"model_type": "gemma4_audio", "output_proj_dims": 32}


def build() -> EmbeddingGemma2Model:
    """Return a multimodal model of random weights, whose text tower attends sharply enough to show a wrong window."""
    torch.manual_seed(0)
    model = EmbeddingGemma2Model(EmbeddingGemma2Config(text_config=TEXT, vision_config=VISION, audio_config=AUDIO))
    with torch.no_grad():
        for name, weight in model.language_model.named_parameters():
            if "norm" in name:
                weight.copy_(1 + 0.3 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * weight.shape[-1] ** -0.5)
        for number, layer in enumerate(model.language_model.layers):
            layer.layer_scalar.fill_(1 - 0.1 * number)
    return model.eval()


def write(folder: Path, model: EmbeddingGemma2Model, *, shard_size: str = "1GB") -> Path:
    """Write the folder of a multimodal checkpoint and return it; its modules are those of a text model.

    Args:
        folder: where to.
        model: the multimodal model.
        shard_size: the largest file of weights.
    """
    text = folder.with_name(f"{folder.name}.text")
    EmbeddingGemma2TextModel(EmbeddingGemma2TextConfig(**TEXT)).save_pretrained(text)
    architectures.save_tokenizer("bpe", text)
    body = Transformer(str(text), max_seq_length=POSITIONS, processor_kwargs={"model_max_length": POSITIONS})
    SentenceTransformer(modules=[body, Pooling(DIMENSIONS), Normalize()], device="cpu").save(
        str(folder), create_model_card=False
    )
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size=shard_size)
    settings = folder / "sentence_bert_config.json"
    images = {"image": {"method": "get_image_features", "method_output_name": "pooler_output"}}
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps(content | {"modality_config": content["modality_config"] | images}))
    tokenizer = folder / "tokenizer_config.json"
    tokenizer.write_text(
        json.dumps(json.loads(tokenizer.read_text()) | {"processor_class": "EmbeddingGemma2Processor"})
    )
    (folder / "preprocessor_config.json").write_text("{}")
    return folder


def config(folder: Path) -> Model:
    """Return the configuration of a folder's model."""
    contents = {path.relative_to(folder).as_posix(): b"" for path in sorted(folder.rglob("*")) if path.is_file()}
    changes = {"name": "embeddinggemma_2", "repo": "google/embeddinggemma-2", "dimensions": DIMENSIONS}
    changes |= {"matryoshka": [DIMENSIONS, 16], "max_tokens": POSITIONS, "prompts": {"query": "query: "}}
    return tiny_model.config(contents, pinned=False, source="folder", folder=str(folder), **changes)
