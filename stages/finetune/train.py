"""Training with early stopping: in one process or several, continued from the last checkpoint, ended at the best."""

import os
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from datasets import Dataset
from embed_foundry.errors import InputError, IntegrityError
from embed_foundry.progress import bar
from embed_foundry.system_errors import is_out_of_memory
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from tqdm import tqdm
from transformers import EarlyStoppingCallback, PrinterCallback

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.finetune.arguments import SCORE, build_arguments, make_deterministic, select_column_prompts
from stages.finetune.checkpoints import (
    best_checkpoint,
    find_last_checkpoint,
    hash_tensors,
    load_state,
    restore_checkpoint,
    step_of,
)
from stages.finetune.contrast import ContrastiveLoss, build_columns, build_table
from stages.finetune.curves import History
from stages.finetune.distributed import DistributedTrainer, launch
from stages.finetune.evaluate import RetrievalEvaluator
from stages.finetune.results import Speed
from stages.finetune.splits import Splits
from stages.finetune.trained_model import export_tensors, prepare_model
from stages.finetune.trainer import ProgressCallback, StoppedError, Trainer

# Kept for the moment when memory is out: safetensors ends the process if it gets none to write the adapter.
RESERVE_BYTES = 32 << 20


@dataclass(frozen=True)
class TrainingRun:
    """What a training needs.

    Attributes:
        config: the settings.
        model: the base model's configuration.
        base: its verified folder.
        splits: examples.
        prompts: column -> text before it.
        checkpoints: folder of checkpoints; an earlier run with the same inputs is continued from there.
        adapter: folder that gets adapter_config.json and adapter_model.safetensors (PEFT's format), or
            trained.safetensors (full).
    """

    config: FinetuneSettings
    model: Model
    base: Path
    splits: Splits
    prompts: Mapping[str, str]
    checkpoints: Path
    adapter: Path


@dataclass(frozen=True)
class TrainingOutcome:
    """A finished training.

    Attributes:
        history: the trainer's log.
        best_step: step of the best checkpoint, whose weights were written.
        steps: steps taken.
        speed: measured figures.
        digest: of the trained tensors after the last step.
    """

    history: History
    best_step: int
    steps: int
    speed: Speed
    digest: str


def train(run: TrainingRun) -> TrainingOutcome:
    """Train in `processes` processes, and write the tensors of the best checkpoint.

    Raises:
        InputError: the loss is not finite, or memory is out; the best adapter so far stays with the checkpoints.
        IntegrityError: several processes ended with different weights.
    """
    config = run.config
    if config.processes == 1:
        return train_in_process(run)
    try:
        outcomes = launch(int(config.processes or 1), train_in_process, run, run.checkpoints)
    except StoppedError as stopped:  # the processes are gone, so there is memory for one more model
        raise _explain_stop(stopped, prepare_model(config, run.model, run.base), run) from None
    if len({outcome.digest for outcome in outcomes}) != 1:
        raise IntegrityError(
            f"finetune: the {len(outcomes)} processes ended with different weights, expected the same. This should not "
            "happen: report it, and set finetune.processes=1."
        )
    return replace(outcomes[0], speed=_combine_speeds([outcome.speed for outcome in outcomes]))


def train_in_process(run: TrainingRun) -> TrainingOutcome:
    """Train in this process, alone or as one of several, the first of which writes the tensors.

    Raises:
        InputError: the loss is not finite, or memory is out; with several processes as StoppedError.
    """
    config, prompts = run.config, run.prompts
    distributed = config.processes != 1
    first = not distributed or os.environ["RANK"] == "0"
    make_deterministic(config)
    trained = prepare_model(config, run.model, run.base)
    dimensions = sorted({run.model.dimensions, *run.model.matryoshka}, reverse=True)
    train, dev = run.splits.train, run.splits.dev
    loss = ContrastiveLoss(trained, config.mini_batch_size, build_table([*train, *dev]))
    evaluator = RetrievalEvaluator(dev, dimensions, prompts)
    last = find_last_checkpoint(run.checkpoints)
    examples = build_columns(train, padding=distributed)
    column_prompts = select_column_prompts(examples, prompts)
    with bar("finetune", 1) if first else tqdm(disable=True) as progress:
        trainer = (DistributedTrainer if distributed else Trainer)(
            model=trained,
            args=build_arguments(config, len(train), column_prompts, run.checkpoints, fresh=last is None),
            train_dataset=Dataset.from_dict(examples),
            eval_dataset=Dataset.from_dict(build_columns(dev, start=len(train))),
            loss=MatryoshkaLoss(trained, loss, dimensions),
            evaluator=evaluator,
            callbacks=[EarlyStoppingCallback(config.patience, config.threshold), ProgressCallback(progress, SCORE)],
        )
        trainer.remove_callback(PrinterCallback)  # the bar shows what it would print
        reserve = bytearray(RESERVE_BYTES)
        start, cpu_start = time.monotonic(), time.process_time()
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except (StoppedError, IntegrityError, MemoryError, RuntimeError) as error:
            stopped = StoppedError(f"step {trainer.state.global_step + 1}: {_describe_stop(error)}")
            reserve.clear()
            raise (stopped if distributed else _explain_stop(stopped, trained, run)) from None
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    digest = hash_tensors(trained)
    best = best_checkpoint(trainer.state)
    if first:
        restore_checkpoint(trained, best)
        export_tensors(trained, config, run.model, run.adapter)
    speed = _measure_speed(seconds, cpu_seconds, trainer.tokens)
    return TrainingOutcome(trainer.state.log_history, step_of(best), trainer.state.global_step, speed, digest)


def _describe_stop(error: Exception) -> str:
    """Return why training cannot go on; an error that is no reason of ours is raised again.

    Memory can also run out while the dev split is evaluated, whose vectors may not be finite either.
    """
    if is_out_of_memory(error):
        return "out of memory"
    if not isinstance(error, StoppedError | IntegrityError):
        raise error
    return str(error)


def _measure_speed(seconds: float, cpu_seconds: float, tokens: int) -> Speed:
    """Return the figures of this process, with its peak memory so far."""
    return Speed(
        seconds=round(seconds, 1),
        cpu_s=round(cpu_seconds, 1),
        tokens=tokens,
        tokens_per_s=round(tokens / seconds, 1),
        rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1),
        vram_mb=round(torch.cuda.max_memory_allocated() / 1e6, 1) if torch.cuda.is_available() else None,
    )


def _combine_speeds(speeds: list[Speed]) -> Speed:
    """Return the first process's figures, with the sums of tokens and CPU seconds and the maxima of memory."""
    figures = [asdict(speed) for speed in speeds]
    sums = {name: round(sum(row[name] for row in figures), 1) for name in ("cpu_s", "tokens", "tokens_per_s")}
    maxima = {name: max(row[name] for row in figures) for name in ("rss_mb", "vram_mb") if figures[0][name] is not None}
    return replace(speeds[0], **sums, **maxima)


def _explain_stop(stopped: StoppedError, trained: SentenceTransformer, run: TrainingRun) -> InputError:
    """Write the best adapter so far, and return the error that says what to change."""
    config, adapter = run.config, run.checkpoints / "adapter"
    kept = "There is no checkpoint yet."
    if last := find_last_checkpoint(run.checkpoints):
        restore_checkpoint(trained, best_checkpoint(load_state(last)))
        export_tensors(trained, config, run.model, adapter)
        kept = f"The best adapter so far is kept in {adapter}."
    return InputError(
        f"finetune: {stopped}, with batch_size {config.batch_size}, mini_batch_size {config.mini_batch_size}, "
        f"learning_rate {config.learning_rate}. {kept} If memory is out, lower mini_batch_size; if the loss is not "
        "finite, lower learning_rate or set precision=fp32. Then run again."
    )
