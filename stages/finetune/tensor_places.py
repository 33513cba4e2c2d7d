"""Where a base model's files have each of its tensors, so that a trained one can replace it.

Files may have other names than the model (LayerNorm.gamma, bert.encoder…) and several tensors as one (attn.Wqkv):
transformers knows both, as it loads them and saves them again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from embed_foundry.errors import InputError
from safetensors import safe_open
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)

from stages.common.sources.base_model.layout import WEIGHTS, list_weights, read_modules
from stages.common.sources.base_model.weights import BODY

ADVICE = "So it could not be merged. Take another base model, or train an adapter on other layers: finetune=lora."


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        file: its path in the model's folder.
        name: its name there.
        parts: the model's tensors that it holds, by their names in `state_dict`.
        converted: whether the model has its content in another form.
    """

    file: str
    name: str
    parts: tuple[str, ...]
    converted: bool


def find_stored(model: SentenceTransformer, base: Path, names: Iterable[str]) -> list[StoredTensor]:
    """Return what the files have of a model's tensors.

    Args:
        model: loaded from the files.
        base: their folder.
        names: of the tensors, as in the model's `state_dict`.

    Raises:
        InputError: the files have one of them twice, or not at all.
    """
    owners: dict[str, list[StoredTensor]] = {}
    for stored in _list_stored(model, base):
        for part in stored.parts:
            owners.setdefault(part, []).append(stored)
    state = model.state_dict()
    twins: dict[int, list[str]] = {}  # names of one tensor in memory, of which the files need only one
    for name, tensor in state.items():
        twins.setdefault(tensor.data_ptr(), []).append(name)
    result: dict[StoredTensor, None] = {}
    for name in names:
        own = [stored for twin in twins[state[name].data_ptr()] for stored in owners.get(twin, [])]
        if len(own) != 1:
            present = " and ".join(f"{stored.name} in {stored.file}" for stored in own) or "no tensor for it"
            raise InputError(f"{base}: {name} is trained, but the files have {present}, expected one. {ADVICE}")
        result[own[0]] = None
    return list(result)


def read_values(model: SentenceTransformer, tensors: Sequence[StoredTensor]) -> dict[StoredTensor, torch.Tensor]:
    """Return what files are to hold for the model as it is now.

    Raises:
        InputError: transformers cannot give a tensor the form of the files.
    """
    state, reverted = model.state_dict(), {}
    if any(stored.converted for stored in tensors):
        reverted = _revert(model[0].auto_model)
    values = {}
    for stored in tensors:
        value = reverted.get(stored.name) if stored.converted else state[stored.parts[0]]
        if value is None:
            raise InputError(f"transformers loads {stored.name} of {stored.file}, but cannot save it. {ADVICE}")
        values[stored] = value
    return values


def require_places(model: SentenceTransformer, base: Path, names: Iterable[str]) -> None:
    """Check that the files have what is to be trained once, and just as the model would be written.

    Raises:
        InputError: they do not.
    """
    values = read_values(model, find_stored(model, base, names))
    for file in sorted({stored.file for stored in values}):
        with safe_open(base / file, framework="pt") as content:
            for stored, value in values.items():
                if stored.file == file and not torch.equal(content.get_tensor(stored.name).to(value.dtype), value):
                    raise InputError(
                        f"{base / file}: {stored.parts[0]} is trained, but transformers changes {stored.name} as it "
                        f"loads it. {ADVICE}"
                    )


def _list_stored(model: SentenceTransformer, base: Path) -> list[StoredTensor]:
    """Return the tensors of the files that the model has."""
    first, *others = read_modules(base)
    body = model[0].auto_model
    transforms = get_model_conversion_mapping(body)
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    targets = {pattern: entry.target_patterns for entry in converters for pattern in entry.source_patterns}
    prefix, state = body.base_model_prefix, body.state_dict()
    tensors = []
    for file in list_weights(base / first.path):
        path = PurePosixPath(first.path, file)
        for stored in _read_names(base / path):
            name, pattern = rename_source_key(stored, renamings, converters, prefix, state)
            if name not in state and stored in state:
                name, pattern = stored, None
            patterns = targets[pattern] if pattern else [""]
            parts = [name.replace(patterns[0], target, 1) if target else name for target in patterns]
            if all(part in state for part in parts):
                names = tuple(f"{BODY}{part}" for part in parts)
                tensors.append(StoredTensor(str(path), stored, names, pattern is not None))
    for number, module in enumerate(others, start=1):
        path = PurePosixPath(module.path, WEIGHTS)
        for stored in _read_names(base / path) if module.path and (base / path).is_file() else []:
            tensors.append(StoredTensor(str(path), stored, (f"{number}.{stored}",), converted=False))
    return tensors


def _revert(body: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return a transformer's tensors as transformers saves them, and by the names of the bare transformer, too."""
    saved: dict[str, torch.Tensor] = revert_weight_conversion(body, body.state_dict())
    prefix = f"{body.base_model_prefix}."
    return saved | {name.removeprefix(prefix): tensor for name, tensor in saved.items()}


def _read_names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as content:
        return list(content.keys())
