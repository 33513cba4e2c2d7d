"""Static variants: Model2Vec distils the base model's output for every token into one table."""

from pathlib import Path

import numpy as np
from embed_foundry.errors import InputError

from stages.common.intake import read_json
from stages.common.recipes import StaticVariant
from stages.convert import THREADS, Draft

TABLE = "table.safetensors"
TOKENIZER = "tokenizer.json"
# model2vec's names for what we call int8 and fp32.
PRECISIONS = {"int8": "int8", "fp32": "float32"}


def convert(base: Path, recipe: StaticVariant, work: Path) -> Draft:
    """Distil, reduce by PCA, weight by SIF, quantise; the result runs on numpy and tokenizers alone.

    Raises:
        InputError: the base model has Dense heads (model2vec would silently skip them), or fewer dimensions than asked.
    """
    import torch
    from model2vec.distill import distill_from_model
    from safetensors.numpy import save_file
    from threadpoolctl import threadpool_limits
    from transformers import AutoModel, AutoTokenizer

    modules = read_json(base / "modules.json")
    if heads := [module["path"] for module in modules if module["type"].endswith("Dense")]:
        raise InputError(f"{base}: has heads {heads}, which Model2Vec would skip. Leave static out of `variant`.")
    torch.set_num_threads(THREADS)
    encoder = AutoModel.from_pretrained(str(base), local_files_only=True)
    if recipe.dimensions > encoder.config.hidden_size:
        raise InputError(
            f"static: dimensions {recipe.dimensions} exceeds the model's {encoder.config.hidden_size}. Lower it."
        )
    with threadpool_limits(THREADS):
        model = distill_from_model(
            model=encoder,
            tokenizer=AutoTokenizer.from_pretrained(str(base), local_files_only=True),
            device="cpu",
            pca_dims=recipe.dimensions,
            sif_coefficient=recipe.sif_coefficient,
            quantize_to=PRECISIONS[recipe.precision],
        )
    save_file({"embeddings": np.ascontiguousarray(model.embedding)}, work / TABLE)
    model.tokenizer.save(str(work / TOKENIZER), pretty=False)
    return Draft(
        files={"table": TABLE, "tokenizer": TOKENIZER},
        dimensions=int(model.embedding.shape[1]),
        facts={"unknown_id": model.unk_token_id},
        own_space=True,
    )
