"""Checks of a base model's folder: one whole SentenceTransformer model that is the configured one."""

import re
from pathlib import Path, PurePosixPath

from embed_foundry.errors import InputError, IntegrityError

from stages.common.config import Model
from stages.common.sources.intake import JsonObject, read_json, read_object, unexpected_code_error

LIBRARY_MODULE = re.compile(r"sentence_transformers(\.[A-Za-z_]\w*)+")
# Keys under which architectures store the length of a token vector.
WIDTH_KEYS = ("hidden_size", "d_model", "dim", "n_embd")


def check_model(folder: Path, model: Model) -> None:
    """Check that the files form one loadable SentenceTransformer model, and that it is the configured one.

    Raises:
        IntegrityError: a part is missing, names code, or does not load.
        InputError: the files make vectors of another length, or have fewer positions, than configured.
    """
    modules = _read_modules(folder)
    transformer = folder / modules[0][1]
    config = read_object(transformer / "config.json")
    dimensions = _output_dimensions(folder, modules, config)
    if dimensions is not None and dimensions != model.dimensions:
        raise InputError(
            f"model.dimensions is {model.dimensions}, but {model.repo}'s files give vectors of length {dimensions}. "
            f"Set model.dimensions={dimensions}, or take the files of the configured model."
        )
    positions = _text_config(config).get("max_position_embeddings")
    if isinstance(positions, int) and model.max_tokens > positions:
        raise InputError(
            f"model.max_tokens is {model.max_tokens}, but {model.repo} has {positions} positions. "
            f"Set model.max_tokens to at most {positions}."
        )
    _check_shards(transformer)
    _check_tokenizer(transformer / "tokenizer.json")


def _read_modules(folder: Path) -> list[tuple[str, str]]:
    """Return (class name, path) of each module in modules.json, the transformer first."""
    path = folder / "modules.json"
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise IntegrityError(f"{path}: expected a list of modules. Use a folder that sentence-transformers saved.")
    modules = []
    for entry in entries:
        module_type, module_path = str(entry.get("type")), str(entry.get("path"))
        if not LIBRARY_MODULE.fullmatch(module_type):
            raise unexpected_code_error(path, f"module type {module_type!r}, which is not sentence-transformers' own")
        if PurePosixPath(module_path).is_absolute() or ".." in PurePosixPath(module_path).parts:
            raise IntegrityError(f"{path}: module path {module_path!r} leaves the model folder. Do not use this model.")
        modules.append((module_type.rpartition(".")[2], module_path))
    if modules[0][0] != "Transformer":
        raise InputError(
            f"{path}: the first module is {modules[0][0]}, expected Transformer; no other can be converted yet. "
            "Choose another model."
        )
    return modules


def _output_dimensions(folder: Path, modules: list[tuple[str, str]], config: JsonObject) -> int | None:
    """Return the length of the model's vectors according to its configuration files; None if no file says it."""
    text = _text_config(config)
    width: int | None = next((text[key] for key in WIDTH_KEYS if isinstance(text.get(key), int)), None)
    for module, module_path in modules[1:]:
        if module not in {"Pooling", "Dense"}:
            continue
        path = folder / module_path / "config.json"
        settings = read_object(path)
        expected = settings.get(
            "in_features", settings.get("word_embedding_dimension", settings.get("embedding_dimension"))
        )
        if width is not None and expected != width:
            raise IntegrityError(f"{path}: expects length {expected}, the module before gives {width}. Get it again.")
        if module == "Dense":
            width = settings.get("out_features")
            weights = path.with_name("model.safetensors")
            if not weights.is_file():
                raise IntegrityError(f"{weights}: missing; modules.json needs it. List it in model.files.")
        elif width is not None:
            width *= _count_pooling_modes(settings)
    return width


def _count_pooling_modes(settings: JsonObject) -> int:
    """Return how many pooled vectors are concatenated: newer files list the modes, older ones have a flag for each."""
    modes = settings.get("pooling_mode")
    if modes is not None:
        return len(modes) if isinstance(modes, list) else 1
    return sum(value is True for key, value in settings.items() if key.startswith("pooling_mode_"))


def _check_shards(folder: Path) -> None:
    """Check that all shards of the weights are in the folder, and that the index names no file outside it."""
    index = folder / "model.safetensors.index.json"
    names = set(read_object(index).get("weight_map", {}).values()) if index.is_file() else {"model.safetensors"}
    present = {path.name for path in folder.glob("*.safetensors")}
    if missing := sorted(map(str, names - present)):
        raise IntegrityError(f"{folder}: weights {', '.join(missing)} are missing. List them in model.files.")


def _check_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    if not path.is_file():
        raise IntegrityError(
            f"{path}: missing; every variant needs it. List it in model.files, or save a fast tokenizer."
        )
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise IntegrityError(f"{path}: does not load as a tokenizer ({error}). Get it again from its source.") from None


def _text_config(config: JsonObject) -> JsonObject:
    """Return the text part of a configuration, which multimodal models nest."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config
