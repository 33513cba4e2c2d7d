"""Checkpoints of the trained tensors alone: one safetensors file that must fit the model exactly.

sentence-transformers' own checkpoints of adapters do not load: `load_best_model_at_end` only logs "Could not load the
best model" and keeps the last weights. Here a tensor that is missing or left over is an error.
"""

import hashlib
import json
from pathlib import Path

import torch
from embed_foundry.errors import InputError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers.trainer_callback import TrainerState

TENSORS_FILE = "trained.safetensors"
STATE_FILE = "trainer_state.json"


def trainable_tensors(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    """Return name -> tensor of everything that training changes."""
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def hash_tensors(model: SentenceTransformer) -> str:
    """Return the hex SHA-256 of the tensors that training changes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trainable_tensors(model).items()):
        digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(model: SentenceTransformer, folder: Path) -> None:
    """Write the tensors that training changes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in trainable_tensors(model).items()}
    save_file(tensors, folder / TENSORS_FILE)


def restore_checkpoint(model: SentenceTransformer, checkpoint: Path) -> None:
    """Copy a checkpoint's tensors into a model.

    Raises:
        InputError: the checkpoint has other tensors than the model trains.
    """
    current, saved = trainable_tensors(model), load_file(checkpoint / TENSORS_FILE)
    if set(current) != set(saved):
        different = sorted(set(current) ^ set(saved))[:3]
        raise InputError(f"{checkpoint}: belongs to another model; {different} differ. Remove it.")
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(saved[name])


def find_last_checkpoint(folder: Path) -> Path | None:
    """Return the latest complete checkpoint; the trainer writes its state last, and a kill can truncate it."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        try:
            json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return checkpoint
    return None


def step_of(checkpoint: Path) -> int:
    """Return the training step at which a checkpoint was made."""
    return int(checkpoint.name.rpartition("-")[2])


def best_checkpoint(state: TrainerState) -> Path:
    """Return the folder of the checkpoint with the best dev score."""
    return Path(state.best_model_checkpoint)


def load_state(checkpoint: Path) -> TrainerState:
    """Return the trainer's state at a checkpoint."""
    return TrainerState.load_from_json(str(checkpoint / STATE_FILE))
