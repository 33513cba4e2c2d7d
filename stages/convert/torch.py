"""PyTorch reference variants: the base model's own files, with the weights cast or rounded to the recipe's precision.

The model is never loaded into transformers and saved again: saving rewrites configurations and tokenizers in the words
of the installed version, and an older one that loads them then computes something else.
"""

import shutil
from pathlib import Path

from embed_foundry import manifest
from embed_foundry.errors import InputError

from stages.common.config.variant import TorchRecipe
from stages.common.sources import probe_texts
from stages.common.sources.base_model.layout import INDEX, find_transformer, list_weights
from stages.common.sources.intake import read_object
from stages.convert.conversion import MODEL_LIBRARIES, THREADS, ConversionResult, Folders, measure_dimensions
from stages.convert.tokenizer import TOKENIZER, load_tokenizer

LIBRARIES = ("safetensors", *MODEL_LIBRARIES)
WEIGHTS = ".safetensors"
CONFIG = "config.json"
# torch's name of each precision that weights are cast to.
CASTS = {"bf16": "bfloat16", "fp16": "float16"}
# model_type of transformers whose makers rule fp16 out.
NOT_FP16 = {"embedding_gemma2_text": "EmbeddingGemma 2's model card says that it overflows float16"}
# Files that the fast tokenizer in tokenizer.json replaces; an 8-bit variant is made for its size.
SLOW_TOKENIZERS = {"tokenizer.model", "vocab.txt", TOKENIZER}


def convert(folders: Folders, recipe: TorchRecipe) -> ConversionResult:
    """Copy the base model byte for byte, except for its weights.

    Raises:
        InputError: fp16, of a model whose makers rule it out.
    """
    base, copy = folders.base, folders.work / "model"
    architecture = read_object(find_transformer(base) / CONFIG).get("model_type")
    if recipe.precision == "fp16" and architecture in NOT_FP16:
        raise InputError(f"{NOT_FP16[architecture]}. Take fp16 out of `variant`; use fp32 or bf16 instead.")
    if recipe.precision == "int8":
        return _quantize_weights(folders, copy)
    for name in manifest.files_of(base):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if recipe.precision in CASTS and name.endswith(WEIGHTS):
            _cast_weights(base / name, target, CASTS[recipe.precision])
        else:
            shutil.copyfile(base / name, target)
    caveat = _describe_overflow(base) if recipe.precision == "fp16" else ""
    return ConversionResult(
        files={"model": "model"},
        dimensions=_read_dimensions(copy),
        caveat=caveat,
        exact=recipe.precision == "fp32",
    )


def _cast_weights(source: Path, target: Path, dtype: str) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    tensors = {
        name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(source).items()
    }
    save_file(tensors, target, metadata)


def _quantize_weights(folders: Folders, copy: Path) -> ConversionResult:
    """Write the transformer's linear layers and token table in int8; pooling and heads stay as they are."""
    from embed_foundry.encoders.torch_int8 import METHOD, replace_layers
    from safetensors.torch import save_file
    from sentence_transformers import SentenceTransformer

    base, body = folders.base, find_transformer(folders.base).relative_to(folders.base)
    model = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    transformer = model[0].auto_model
    replace_layers(transformer, fill=True)
    replaced = {body / name for name in (*list_weights(base / body), INDEX)}
    for name in map(Path, manifest.files_of(base)):
        if name.name not in SLOW_TOKENIZERS and name not in replaced:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base / name, target)
    load_tokenizer(base, folders.cache).copy(copy / body)
    save_file(
        {name: tensor.contiguous() for name, tensor in transformer.state_dict().items()},
        copy / body / f"model{WEIGHTS}",
        {"format": "pt"},
    )
    config = read_object(base / body / CONFIG)
    (copy / body / CONFIG).write_bytes(manifest.canonical(config | {"quantization_config": {"quant_method": METHOD}}))
    return ConversionResult(files={"model": "model"}, dimensions=measure_dimensions(model), batching="equal_length")


def _describe_overflow(base: Path) -> str:
    """Return where fp16 ends, and where the base model's fp32 values are largest over the probe texts."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    peak, peak_module = 0.0, ""

    def record_peak(module: str, output: object) -> None:
        nonlocal peak, peak_module
        value = output[0] if isinstance(output, tuple) else output
        if isinstance(value, torch.Tensor) and value.is_floating_point() and (top := float(value.abs().max())) > peak:
            peak, peak_module = top, module

    for name, module in model.named_modules():
        module.register_forward_hook(lambda _module, _input, output, name=name: record_peak(name, output))
    for text in probe_texts.read_texts():
        model.encode([text], show_progress_bar=False)
    end = torch.finfo(torch.float16).max
    return f"fp16 ends at {end:.0f}; in fp32 this model reaches {peak:.3g} ({peak_module}). Use fp32 or bf16 instead."


def _read_dimensions(folder: Path) -> int:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return measure_dimensions(model)
