"""The finetune stage: the base model and examples in, a merged model out."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from embed_foundry import manifest
from embed_foundry.errors import InputError
from embed_foundry.output.folder import require_space

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.common.contract.output import folder_size, library_versions, stage_output
from stages.common.contract.tables import write_json_lines
from stages.finetune.disk import estimate_disk
from stages.finetune.results import FinetuneReport, Metrics, TrainingRecord
from stages.finetune.splits import Splits, split_examples
from stages.finetune.triplets import Triplet, count_long_texts

LIBRARIES = ("accelerate", "botocore", "datasets", "gensim", "peft", "sentence-transformers", "torch", "transformers")
SCRATCH = Path(".cache/finetune")


def run(
    config: FinetuneSettings, model: Model, base: Path, suite: Path, out: Path, scratch: Path = SCRATCH
) -> FinetuneReport:
    """Fine-tune, merge and evaluate.

    Args:
        config: the settings.
        model: the base model's configuration.
        base: its verified folder.
        suite: data/, the suite's tasks, whose texts are not trained on.
        out: the output folder.
        scratch: folder for checkpoints and an LLM's replies.

    Raises:
        InputError: data or settings cannot be used, or training stopped.
        IntegrityError: an input differs from its manifest, or the merged model from the adapted one.
        RemoteError: the LLM endpoint refuses.
        RetryableError: the endpoint is busy, another process writes `out`, or the disk is too small.
    """
    config = config.model_copy(update={"processes": count_processes(config)})
    stage = f"finetune@{config.method}"
    parameters = {
        "finetune": config.model_dump(mode="json"),
        "model": model.vector_settings() | {"dimensions": model.dimensions},
    }
    libraries = (*LIBRARIES, "bitsandbytes") if config.method == "qlora" else LIBRARIES
    inputs = {"base": base, "data": suite}
    with stage_output(out, stage=stage, parameters=parameters, inputs=inputs, libraries=libraries) as work:
        needs = estimate_disk(config.method, base)
        require_space(out.parent, needs.out)
        scratch.mkdir(parents=True, exist_ok=True)
        # An interrupted run goes on from what it left there, so that is room already taken.
        require_space(scratch, needs.scratch - folder_size(scratch))
        from stages.finetune import curves, evaluate, merge, notes, train
        from stages.finetune.batches import count_untrained

        prompts = select_prompts(config, model)
        merge.require_mergeable(config, model, base)
        splits = _prepare_examples(config, base, suite, prompts, scratch, work)
        truncated, texts = count_long_texts(splits.train, base, config.max_tokens)
        checkpoints = scratch / _hash_inputs(parameters, base, work / "triplets", library_versions(libraries))
        outcome = train.train(train.TrainingRun(config, model, base, splits, prompts, checkpoints, work / "adapter"))
        merged, parity = merge.merge_adapter(config, base, work / "adapter", work / "model")
        evaluation = evaluate.compare_models(config, model, splits, prompts, merge.load_model(base), merged)
        untrained = count_untrained(len(splits.train), config.batch_size, outcome.steps)
        left_out = splits.dropped | ({"train: not reached when training ended": untrained} if untrained else {})
        sentences = [
            *notes.describe_left_out(left_out),
            *notes.describe_negatives(splits.train),
            *notes.describe_unread(_count_unread(config)),
            *notes.describe_truncation(truncated, texts, config.max_tokens),
            *notes.describe_training(outcome.history, outcome.best_step, outcome.steps),
            *notes.describe_evaluation(evaluation, config.forgetting_max),
        ]
        record = TrainingRecord(
            **parameters,
            base=manifest.read(base).digest,
            examples={name: len(triplets) for name, triplets in splits.parts.items()},
            left_out=left_out,
            cut=truncated,
            parity=parity,
            best_step=outcome.best_step,
            steps=outcome.steps,
            words=sentences,
        )
        metrics = Metrics(evaluation.retrieval, evaluation.graded, outcome.best_step, outcome.steps, parity)
        report = FinetuneReport(metrics, sentences, outcome.speed)
        report.write(work, record)
        curves.write_curves(outcome.history, work)
        manifest.write(work / "model", {"stage": stage, "parameters": parameters, "inputs": {"base": record.base}})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return report


def count_processes(config: FinetuneSettings) -> int:
    """Return how many processes train: as configured, else one for each GPU.

    Raises:
        InputError: there are fewer GPUs, they cannot share a batch equally, or this is one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "finetune: was started as one of several processes (WORLD_SIZE is set), expected one, which starts the "
            "others. Run it without a launcher and set finetune.processes."
        )
    import torch

    gpus = torch.cuda.device_count()
    processes = config.processes or max(1, gpus)
    if gpus and processes > gpus:
        raise InputError(
            f"finetune.processes: {processes}, but there are {gpus} GPUs here. Lower it, or set it to null."
        )
    if config.batch_size % processes:
        raise InputError(
            f"finetune: batch_size {config.batch_size} is not divisible by {processes} GPUs. Change it, or set "
            "finetune.processes."
        )
    return processes


def select_prompts(config: FinetuneSettings, model: Model) -> dict[str, str]:
    """Return column -> the text before it, for the columns that have a prompt.

    Raises:
        InputError: the model has prompts, but not the named one.
    """
    prompts = {}
    for column, name in config.prompts.model_dump().items():
        if name is not None and model.prompts:
            if name not in model.prompts:
                raise InputError(
                    f"finetune.prompts.{column}: {model.repo} has no prompt {name!r}, only {sorted(model.prompts)}."
                )
            prompts[column] = model.prompts[name]
    return prompts


def _prepare_examples(
    config: FinetuneSettings, base: Path, suite: Path, prompts: Mapping[str, str], scratch: Path, work: Path
) -> Splits:
    """Write the examples of each split, with mined negatives if configured, and return them."""
    examples, left_out = _read_documents(config, scratch, work)
    splits = split_examples(config.data, config.seed, suite, examples)
    splits = replace(splits, dropped=left_out | splits.dropped)
    splits.write(work / "triplets")
    if config.hard_negatives:
        from stages.finetune.mining import mine_negatives

        splits = mine_negatives(config, base, splits, prompts)
        splits.write(work / "triplets")
    return splits


def _read_documents(config: FinetuneSettings, scratch: Path, work: Path) -> tuple[list[Triplet] | None, dict[str, int]]:
    """Return the examples made of a folder of documents, None for other sources; and reason -> what gives none."""
    if config.data.source != "documents":
        return None, {}
    from stages.finetune import documents, llm

    passages = documents.read_passages(_documents_folder(config))
    write_json_lines(work / "passages.jsonl", [asdict(passage) for passage in passages])
    if config.data.llm is None:
        examples = documents.derive_examples(passages)
        silent = len(passages) - len(examples)
        return examples, {"documents: passages without a question": silent} if silent else {}
    generated = llm.generate_examples(passages, config.data.llm, scratch / "replies")
    counts = {"accepted": len(generated.triplets), "refused": generated.rejected, "unanswered": generated.unanswered}
    (work / "questions.json").write_bytes(manifest.canonical(counts))
    return generated.triplets, generated.left_out


def _count_unread(config: FinetuneSettings) -> dict[str, int]:
    """Return suffix -> number of the files in a folder of documents that no reader reads."""
    from stages.common.sources import documents

    return documents.count_unread(_documents_folder(config)) if config.data.source == "documents" else {}


def _documents_folder(config: FinetuneSettings) -> Path:
    return Path(str(config.data.path)).expanduser()


def _hash_inputs(parameters: Mapping[str, object], base: Path, examples: Path, libraries: dict[str, str]) -> str:
    """Return the name of the checkpoints' folder: a digest of everything that the training depends on."""
    files = {name: manifest.sha256(examples / name) for name in manifest.files_of(examples)}
    inputs = [parameters, manifest.read(base).digest, files, libraries]
    return hashlib.sha256(manifest.canonical(inputs)).hexdigest()[:16]
