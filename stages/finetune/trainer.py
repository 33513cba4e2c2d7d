"""sentence-transformers' trainer, with checkpoints of what is trained alone; its own of adapters do not load.

`load_best_model_at_end` with an adapter only logs "Could not load the best model" and keeps the last weights. Here a
checkpoint is one safetensors file of all trained tensors, and a tensor that is missing or left over is an error.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from embed_foundry.errors import InputError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from tqdm import tqdm
from transformers import TrainerCallback

TRAINED = "trained.safetensors"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class StoppedError(Exception):
    """Training cannot go on; the text says why."""


def trained(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    """Return the tensors of a model that training changes, by name."""
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def digest(model: SentenceTransformer) -> str:
    """Return the SHA-256 of the tensors that training changes."""
    found = hashlib.sha256()
    for name, tensor in sorted(trained(model).items()):
        found.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def restore(model: SentenceTransformer, checkpoint: Path) -> None:
    """Put a checkpoint's tensors into a model, all of them.

    Raises:
        InputError: the checkpoint is of other tensors.
    """
    mine, kept = trained(model), load_file(checkpoint / TRAINED)
    if set(mine) != set(kept):
        raise InputError(f"{checkpoint}: is of another model; {sorted(set(mine) ^ set(kept))[:3]} differ. Remove it.")
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(kept[name])


class Trainer(SentenceTransformerTrainer):  # type: ignore[misc]  # no types
    """The trainer of this stage; counts tokens and stops at a loss that is no number."""

    tokens = 0

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
        """Do one step.

        Raises:
            StoppedError: the loss is NaN or infinite, or memory is out.
        """
        try:
            loss: torch.Tensor = super().training_step(*args, **kwargs)
        except (MemoryError, RuntimeError) as error:  # torch's out-of-memory errors are RuntimeErrors
            if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
                raise StoppedError("out of memory") from error
            raise
        if not math.isfinite(float(loss)):
            raise StoppedError(f"the loss is {float(loss)}")
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return the loss, and count the step's tokens."""
        if self.model.training:
            self.tokens += sum(int(inputs[name].sum()) for name in inputs if name.endswith("attention_mask"))
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in trained(self.model).items()}, folder / TRAINED
        )

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        restore(self.model, Path(checkpoint_path))


class Watch(TrainerCallback):  # type: ignore[misc]  # no types
    """Shows step, loss, dev score and the time left; looks at the last step, too."""

    def __init__(self, progress: "tqdm[Any]", score: str) -> None:
        self.progress, self.score = progress, score
        self.shown: dict[str, float] = {}

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Move the bar."""
        self.progress.total = state.max_steps
        self.progress.update(state.global_step - self.progress.n)
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float], **_: Any) -> None:  # noqa: ANN401
        """Show the latest figures."""
        names = {"loss": "loss", "eval_loss": "dev loss", self.score: "dev ndcg@10"}
        self.shown |= {words: logs[name] for name, words in names.items() if name in logs}
        figures = ", ".join(f"{words} {value:.4f}" for words, value in self.shown.items())
        self.progress.set_description_str(f"finetune: {figures}", refresh=False)
