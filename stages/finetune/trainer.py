"""sentence-transformers' trainer with this stage's checkpoints, a count of tokens, and a stop at a non-finite loss."""

import math
from pathlib import Path
from typing import Any, Never

import torch
from datasets import Dataset
from embed_foundry.system_errors import is_out_of_memory
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from torch.utils.data import BatchSampler, SequentialSampler
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from stages.finetune.batches import EvenBatches
from stages.finetune.checkpoints import restore_checkpoint, save_checkpoint
from stages.finetune.contrast import ABSENT


class StoppedError(Exception):
    """Training cannot go on; the text says why."""


class Trainer(SentenceTransformerTrainer):  # type: ignore[misc]  # no types
    """The trainer of one process."""

    tokens = 0

    def training_step(self, *args: object, **kwargs: object) -> torch.Tensor:
        """Do one step and return its loss.

        Raises:
            StoppedError: the loss is NaN or infinite, or memory is out.
        """
        try:
            loss: torch.Tensor = super().training_step(*args, **kwargs)
        except (MemoryError, RuntimeError) as error:  # torch's out-of-memory errors are RuntimeErrors
            if is_out_of_memory(error):
                raise StoppedError("out of memory") from error
            raise
        if not math.isfinite(float(loss)):
            raise StoppedError(f"the loss is {float(loss)}")
        return loss

    def get_batch_sampler(self, dataset: Dataset, batch_size: int, **settings: Any) -> BatchSampler:  # noqa: ANN401
        """Return what makes the batches: of training EvenBatches, of the dev split whole ones in its own order."""
        if dataset is self.train_dataset:
            return self.sample_training(dataset, batch_size, settings["generator"], settings["seed"])
        return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)

    def sample_training(self, dataset: Dataset, batch_size: int, generator: torch.Generator, seed: int) -> EvenBatches:
        """Return the batches of training."""
        return EvenBatches(dataset, batch_size, generator, seed)

    def compute_loss(
        self, model: SentenceTransformer, inputs: dict[str, torch.Tensor], *args: object, **kwargs: object
    ) -> torch.Tensor:
        """Return the loss, and count the step's tokens."""
        if self.model.training:
            real = inputs["label"] != ABSENT
            self.tokens += sum(int(inputs[name][real].sum()) for name in inputs if name.endswith("attention_mask"))
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        save_checkpoint(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        restore_checkpoint(self.model, Path(checkpoint_path))


class ProgressCallback(TrainerCallback):  # type: ignore[misc]  # no types
    """Shows step, loss, dev score and the time left, and evaluates the last step, too.

    Args:
        progress: the bar.
        score: the dev score's name in the trainer's log.
    """

    def __init__(self, progress: "tqdm[Never]", score: str) -> None:
        self.progress, self.score = progress, score
        self.latest: dict[str, float] = {}

    def on_step_end(self, _args: object, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Move the bar."""
        self.progress.total = state.max_steps
        self.progress.update(state.global_step - self.progress.n)
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True

    def on_log(
        self, _args: object, _state: TrainerState, _control: TrainerControl, logs: dict[str, float], **_: object
    ) -> None:
        """Show the latest figures."""
        labels = {"loss": "loss", "eval_loss": "dev loss", self.score: "dev ndcg@10"}
        self.latest |= {label: logs[name] for name, label in labels.items() if name in logs}
        figures = ", ".join(f"{label} {value:.4f}" for label, value in self.latest.items())
        self.progress.set_description_str(f"finetune: {figures}", refresh=False)
