"""Training: a model, its adapter, early stopping, checkpoints to come back to, and the best of them at the end."""

import json
import os
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from datasets import Dataset
from embed_foundry.errors import InputError, IntegrityError
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
from tqdm import tqdm
from transformers import EarlyStoppingCallback, PrinterCallback, set_seed
from transformers.trainer_callback import TrainerState

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.common.contract.progress import bar
from stages.finetune import ranks
from stages.finetune.evaluate import Retrieval
from stages.finetune.student import bf16, device, export, prepare
from stages.finetune.trainer import StoppedError, Trainer, Watch, digest, restore
from stages.finetune.triplets import Splits, columns

SCORE = "eval_ndcg"
# Threads on a CPU. Sums depend on how they are split, so this is fixed, not the host's number.
THREADS = 2
# Losses are written down about so many times.
LOGS = 40


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        history: the trainer's log: step and loss, eval_loss, eval_ndcg, eval_<dimension>.
        best: step of the best checkpoint, whose weights these are.
        steps: steps taken.
        speed: measured figures: seconds, tokens, tokens a second, memory in MB. They differ from run to run.
        digest: of the last step's trained tensors.
    """

    history: list[dict[str, float]]
    best: int
    steps: int
    speed: dict[str, float]
    digest: str


def run(
    config: FinetuneSettings,
    model: Model,
    base: Path,
    splits: Splits,
    prompts: Mapping[str, str],
    scratch: Path,
    out: Path,
) -> Trained:
    """Train in `config.processes` processes, go back to the best checkpoint, and write what was trained into `out`.

    Args:
        config: the training.
        model: the base model's configuration.
        base: its verified folder.
        splits: examples.
        prompts: column -> text before it.
        scratch: folder of checkpoints; what an earlier run with the same inputs left there is continued.
        out: gets adapter_config.json and adapter_model.safetensors (PEFT's format), or trained.safetensors (full).

    Raises:
        InputError: the loss is no number, or memory is out; the best adapter so far stays in `scratch`. Or there are
            too few examples for several processes.
        IntegrityError: several processes ended with different weights.
    """
    task = (config, model, base, splits, prompts, scratch, out)
    if config.processes == 1:
        return train(*task)
    if len(splits.train) < config.batch_size:
        raise InputError(
            f"finetune: {len(splits.train)} examples in train, expected at least batch_size {config.batch_size}, which "
            f"{config.processes} processes share out. Lower it, add data, or set finetune.processes=1."
        )
    try:
        found = ranks.launch(int(config.processes or 1), train, task, scratch)
    except StoppedError as stopped:  # the ranks are gone, so there is memory for one more model
        raise _explained(stopped, prepare(config, model, base), config, model, scratch) from None
    if len({one.digest for one in found}) != 1:
        raise IntegrityError(
            f"finetune: the {len(found)} processes ended with different weights, expected the same. This should not "
            "happen: report it, and set finetune.processes=1."
        )
    return _together(found)


def train(
    config: FinetuneSettings,
    model: Model,
    base: Path,
    splits: Splits,
    prompts: Mapping[str, str],
    scratch: Path,
    out: Path,
) -> Trained:
    """Train in this process, alone or as one rank of several; the first writes into `out`. Arguments as for `run`.

    Raises:
        InputError: the loss is no number, or memory is out; as StoppedError if this is a rank.
    """
    shared = config.processes != 1
    first = not shared or os.environ["RANK"] == "0"
    _fix(config)
    student = prepare(config, model, base)
    dimensions = sorted({model.dimensions, *model.matryoshka}, reverse=True)
    loss = CachedMultipleNegativesRankingLoss(student, mini_batch_size=config.mini_batch_size)
    dev = Retrieval(splits.dev, dimensions, prompts)
    last = last_checkpoint(scratch)
    examples = columns(splits.train)
    with bar("finetune", 1) if first else tqdm(disable=True) as progress:
        trainer = (ranks.SharedTrainer if shared else Trainer)(
            model=student,
            args=_arguments(config, len(splits.train), before(examples, prompts), scratch, fresh=last is None),
            train_dataset=Dataset.from_dict(examples),
            eval_dataset=Dataset.from_dict(columns(splits.dev)),
            loss=MatryoshkaLoss(student, loss, dimensions),
            evaluator=dev,
            callbacks=[EarlyStoppingCallback(config.patience, config.threshold), Watch(progress, SCORE)],
        )
        trainer.remove_callback(PrinterCallback)  # the bar shows what it would print
        started, worked = time.monotonic(), time.process_time()
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except (StoppedError, IntegrityError) as stopped:  # the latter: vectors of the dev split are not finite
            told = StoppedError(f"step {trainer.state.global_step + 1}: {stopped}")
            raise (told if shared else _explained(told, student, config, model, scratch)) from None
    seconds, worked = time.monotonic() - started, time.process_time() - worked
    ended = digest(student)
    if first:
        restore(student, _best(trainer.state))
        export(student, config, model, out)
    return Trained(
        history=trainer.state.log_history,
        best=_step(_best(trainer.state)),
        steps=trainer.state.global_step,
        speed={
            "seconds": round(seconds, 1),
            "cpu_s": round(worked, 1),
            "tokens": trainer.tokens,
            "tokens_per_s": round(trainer.tokens / seconds, 1),
        }
        | memory(),
        digest=ended,
    )


def before(names: Iterable[str], prompts: Mapping[str, str]) -> dict[str, str]:
    """Return the prompt of each column that has one; negative_1, negative_2 … have that of `negative`."""
    kinds = {name: name.partition("_")[0] for name in names}
    return {name: prompts[kind] for name, kind in kinds.items() if kind in prompts}


def last_checkpoint(scratch: Path) -> Path | None:
    """Return the latest whole checkpoint: the trainer writes its state last, and a kill can cut that."""
    for folder in sorted(scratch.glob("checkpoint-*"), key=_step, reverse=True):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return folder
    return None


def memory() -> dict[str, float]:
    """Return the peak of this process's memory, and of the GPU's, in MB."""
    found = {"rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1)}
    if torch.cuda.is_available():
        found["vram_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return found


def _together(found: list[Trained]) -> Trained:
    """Return the first rank's training with what all did: tokens and CPU seconds add up, memory is the largest."""
    first, speeds = found[0], [one.speed for one in found]
    added = {name: round(sum(speed[name] for speed in speeds), 1) for name in ("cpu_s", "tokens", "tokens_per_s")}
    largest = {name: max(speed[name] for speed in speeds) for name in ("rss_mb", "vram_mb") if name in first.speed}
    return replace(first, speed=first.speed | added | largest)


def _fix(config: FinetuneSettings) -> None:
    """Make the same seed give the same bytes: on a CPU always, on a GPU as far as its kernels allow."""
    set_seed(config.seed)
    if device() == "cpu":
        torch.set_num_threads(max(1, THREADS // int(config.processes or 1)))
        torch.use_deterministic_algorithms(True)


def _arguments(
    config: FinetuneSettings, examples: int, prompts: Mapping[str, str], scratch: Path, *, fresh: bool
) -> SentenceTransformerTrainingArguments:
    steps = max(1, round(config.epochs * examples / config.batch_size))
    shared = config.processes != 1
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_ratio=config.warmup,
        weight_decay=config.weight_decay,
        optim="adamw_torch_fused" if device() == "cuda" else "adamw_torch",
        batch_sampler="no_duplicates",
        bf16=bf16(config),
        use_cpu=device() == "cpu",
        prompts=dict(prompts),
        eval_strategy="steps",
        eval_steps=config.eval_steps,
        eval_on_start=fresh,
        save_strategy="steps",
        save_steps=config.eval_steps,
        save_total_limit=2,  # the best and the last
        metric_for_best_model=SCORE,
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,  # how long there was no gain
        logging_steps=max(1, steps // LOGS),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
        dataloader_pin_memory=device() == "cuda",
        # A batch is one process's, cut into equal parts: no text twice in it, whichever rank has it. What is left over
        # at the end of an epoch has no equal parts.
        accelerator_config={"split_batches": shared},
        dataloader_drop_last=shared,
        ddp_backend=("nccl" if device() == "cuda" else "gloo") if shared else None,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # else one process with several GPUs gets nn.DataParallel
    return arguments


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _best(state: TrainerState) -> Path:
    """Return the best checkpoint's folder."""
    return Path(state.best_model_checkpoint)


def _explained(
    stopped: StoppedError, student: SentenceTransformer, config: FinetuneSettings, model: Model, scratch: Path
) -> InputError:
    """Keep the last good adapter and say what to change."""
    kept = "No checkpoint was made before."
    if last := last_checkpoint(scratch):
        restore(student, _best(TrainerState.load_from_json(str(last / "trainer_state.json"))))
        export(student, config, model, scratch / "adapter")
        kept = f"The best adapter so far is kept in {scratch / 'adapter'}."
    return InputError(
        f"finetune: {stopped}, with batch_size {config.batch_size}, mini_batch_size {config.mini_batch_size}, "
        f"learning_rate {config.learning_rate}. {kept} For memory lower mini_batch_size; for a loss that is no number "
        "lower learning_rate or set precision=fp32; then run again."
    )
