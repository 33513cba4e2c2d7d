"""The trainer's arguments, and what makes its result reproducible."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformerTrainingArguments
from transformers import set_seed

from stages.common.config.finetune import FinetuneSettings
from stages.finetune.trained_model import choose_device, uses_bf16

# The dev score's name in the trainer's log.
SCORE = "eval_ndcg"
# Threads on a CPU. Sums depend on how they are split, so this is fixed and not the host's number.
THREADS = 2
# The loss is logged about this many times.
LOGS = 40


def make_deterministic(config: FinetuneSettings) -> None:
    """Make the same seed give the same bytes: on a CPU always, on a GPU as far as its kernels allow."""
    set_seed(config.seed)
    if choose_device() == "cpu":
        torch.set_num_threads(max(1, THREADS // int(config.processes or 1)))
        torch.use_deterministic_algorithms(True)


def select_column_prompts(columns: Iterable[str], prompts: Mapping[str, str]) -> dict[str, str]:
    """Return the prompt of each column that has one; negative_1, negative_2 … have that of `negative`."""
    roles = {column: column.partition("_")[0] for column in columns}
    return {column: prompts[role] for column, role in roles.items() if role in prompts}


def build_arguments(
    config: FinetuneSettings, examples: int, prompts: Mapping[str, str], checkpoints: Path, *, fresh: bool
) -> SentenceTransformerTrainingArguments:
    """Return the trainer's arguments.

    Args:
        config: the settings.
        examples: how many there are to train on.
        prompts: column -> text before it.
        checkpoints: the folder of checkpoints.
        fresh: whether training starts at step 0, where the base model is evaluated.
    """
    steps = max(1, round(config.epochs * examples / config.batch_size))
    distributed = config.processes != 1
    device = choose_device()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup,  # a share
        weight_decay=config.weight_decay,
        optim="adamw_torch_fused" if device == "cuda" else "adamw_torch",
        bf16=uses_bf16(config),
        use_cpu=device == "cpu",
        prompts=dict(prompts),
        eval_strategy="steps",
        eval_steps=config.eval_steps,
        eval_on_start=fresh,
        save_strategy="steps",
        save_steps=config.eval_steps,
        save_total_limit=2,  # the best and the last
        metric_for_best_model=SCORE,
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,  # for how long there was no gain
        logging_steps=max(1, steps // LOGS),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level_replica="passive",  # as in the first process, which says everything
        seed=config.seed,
        dataloader_pin_memory=device == "cuda",
        ddp_backend=("nccl" if device == "cuda" else "gloo") if distributed else None,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # else one process with several GPUs gets nn.DataParallel
    return arguments
