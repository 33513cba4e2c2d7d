"""Checks of a base model's files before anything loads them: one whole SentenceTransformer model, and nothing else."""

from pathlib import Path

from embed_foundry.errors import InputError, IntegrityError, one_line
from embed_foundry.system_errors import retryable_error

from stages.common.sources.base_model.layout import WEIGHTS, list_weights, read_modules
from stages.common.sources.intake import read_object

# What config_sentence_transformers.json calls a model of one vector a text.
MODEL_TYPE = "SentenceTransformer"
# Keys of the transformer's sentence-transformers configuration that no variant can follow -> what each does. The file
# has seven names, as old as the library: sentence_bert_config.json, sentence_roberta_config.json, …
SETTINGS = "sentence_*_config.json"
REFUSED_SETTINGS = {
    "document_length": "truncates documents at a length of their own",
    "processing_kwargs": "changes how texts become tokens",
    "query_expansion": "pads queries with tokens",
    "query_length": "truncates queries at a length of their own",
    "tokenizer_name_or_path": "takes the tokenizer from another place",
}
TASK_KEY, TASK = "transformer_task", "feature-extraction"
COPY = "Remove it from a copy (model.source=folder) if the model does without, or choose another model."


def check_files(folder: Path) -> None:
    """Check that the files form one SentenceTransformer model whose weights and tokenizer are all here.

    Raises:
        IntegrityError: a part is missing, names code, or is broken.
        InputError: the model is of a kind that cannot be converted.
    """
    modules = read_modules(folder)
    transformer = folder / modules[0].path
    _check_kind(folder, transformer)
    _check_settings(transformer)
    _check_shards(transformer)
    for module in modules:
        weights = folder / module.path / WEIGHTS
        if module.kind in {"Dense", "LayerNorm"} and not weights.is_file():
            raise IntegrityError(f"{weights}: missing; modules.json needs it. List it in model.files.")
    if (tokenizer := transformer / "tokenizer.json").is_file():  # older models have a vocabulary only
        _check_tokenizer(tokenizer)


def _check_kind(folder: Path, transformer: Path) -> None:
    path = folder / "config_sentence_transformers.json"
    kind = read_object(path).get("model_type", MODEL_TYPE) if path.is_file() else MODEL_TYPE
    if kind != MODEL_TYPE:
        raise InputError(f"{path}: is a {kind}, expected a {MODEL_TYPE}: one vector a text. Choose another model.")
    if (adapter := transformer / "adapter_config.json").is_file():
        raise InputError(
            f"{adapter}: is an adapter, expected a model's own weights. Merge it (PeftModel.merge_and_unload), and "
            "save the whole model."
        )
    config = transformer / "config.json"
    if quantization := read_object(config).get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise InputError(
            f"{config}: its weights are quantised already ({method}), expected float32, bfloat16 or float16, which "
            "conversions start from. Take the model from before that."
        )


def _check_settings(transformer: Path) -> None:
    for path in sorted(transformer.glob(SETTINGS)):
        settings = read_object(path)
        for key, effect in REFUSED_SETTINGS.items():
            if settings.get(key):
                raise InputError(f"{path}: sets {key}, which {effect}; variants do not. {COPY}")
        if (task := settings.get(TASK_KEY, TASK)) != TASK:
            raise InputError(
                f"{path}: sets {TASK_KEY} to {task}, expected {TASK}: one vector a token. Choose another model."
            )


def _check_shards(folder: Path) -> None:
    """Check that all shards of the weights are in the folder, and that the index names no file outside it."""
    present = {path.name for path in folder.glob("*.safetensors")}
    if missing := [name for name in list_weights(folder) if name not in present]:
        raise IntegrityError(f"{folder}: weights {', '.join(missing)} are missing. List them in model.files.")


def _check_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the Rust library raises bare Exception, and its panics are none
        refused = retryable_error(error, path) if isinstance(error, Exception) else None
        raise refused or IntegrityError(
            f"{path}: does not load as a tokenizer ({one_line(error)}). Get it again from its source."
        ) from None
