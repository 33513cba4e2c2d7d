"""Which modules a SentenceTransformer folder has, and where each one's files are: modules.json.

Models saved before sentence-transformers 2.0 keep the transformer's files in `0_Transformer/`, later ones in the root.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from embed_foundry.errors import InputError, IntegrityError

from stages.common.sources.intake import REFETCH, read_json, read_object, unexpected_code_error

MODULES = "modules.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LIBRARY_MODULE = re.compile(r"sentence_transformers(\.[A-Za-z_]\w*)+")
TRANSFORMER = "Transformer"
# Modules that may follow the transformer; a conversion of the whole model includes them.
FOLLOWING = ("Pooling", "Dense", "Dropout", "LayerNorm", "Normalize")


@dataclass(frozen=True)
class ModuleEntry:
    """One module of a model.

    Attributes:
        kind: the name of its class in sentence-transformers.
        path: its folder inside the model's; "" if its files are in the root.
    """

    kind: str
    path: str


def read_modules(folder: Path) -> tuple[ModuleEntry, ...]:
    """Return a model's modules in order, the transformer first.

    Raises:
        IntegrityError: modules.json is no list of modules, names code, or leaves the folder.
        InputError: a module is none that can be converted.
    """
    path = folder / MODULES
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
        modules.append(ModuleEntry(module_type.rpartition(".")[2], module_path))
    first, *others = (module.kind for module in modules)
    if wrong := [kind for kind in (first,) if kind != TRANSFORMER] + [kind for kind in others if kind not in FOLLOWING]:
        raise InputError(
            f"{path}: has the module {wrong[0]}; expected {TRANSFORMER}, then only {', '.join(FOLLOWING)}. Other "
            "modules cannot be converted. Choose another model."
        )
    return tuple(modules)


def list_weights(transformer: Path) -> list[str]:
    """Return the names of the files that hold a transformer's weights: one, or the shards that its index names.

    Raises:
        IntegrityError: the index does not say which file holds which tensor.
    """
    index = transformer / INDEX
    if not index.is_file():
        return [WEIGHTS]
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise IntegrityError(f"{index}: expected tensors and their files in weight_map. {REFETCH}")
    return sorted(set(shards.values()))


def find_transformer(folder: Path) -> Path:
    """Return the folder that holds the transformer's configuration, weights and tokenizer.

    Raises:
        IntegrityError: modules.json is no list of modules, names code, or leaves the folder.
        InputError: a module is none that can be converted.
    """
    return folder / read_modules(folder)[0].path
