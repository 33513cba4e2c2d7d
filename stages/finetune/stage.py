"""The finetune stage: the base model and examples in, a merged model out."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from embed_foundry import manifest
from embed_foundry.errors import InputError

from stages.common.config import Model
from stages.common.config.finetune import FinetuneSettings
from stages.common.contract.output import folder_size, library_versions, stage_output

LIBRARIES = ("accelerate", "botocore", "datasets", "gensim", "peft", "sentence-transformers", "torch", "transformers")
# What of the model's configuration shapes the outcome; dvc.yaml names the same as parameters of the stage.
USED = {"repo", "revision", "dimensions", "matryoshka", "max_tokens", "prompts"}
SCRATCH = Path(".cache/finetune")


def run(
    config: FinetuneSettings, model: Model, base: Path, suite: Path, out: Path, scratch: Path = SCRATCH
) -> dict[str, Any]:
    """Fine-tune, merge, evaluate; return the content of metrics.json.

    Args:
        config: the training.
        model: the base model's configuration.
        base: its verified folder.
        suite: data/, the suite's tasks: what they measure is not trained on.
        out: the output folder.
        scratch: where checkpoints and an LLM's replies are kept.

    Raises:
        InputError: data or settings cannot be used, or training broke off.
        IntegrityError: an input differs from its manifest, or the merged model from the adapted one.
        RemoteError: the LLM endpoint refuses.
        RetryableError: it is busy, another process writes `out`, or the disk is too small.
    """
    config = config.model_copy(update={"processes": _processes(config)})
    settings = config.model_dump(mode="json")
    parameters = {"finetune": settings, "model": model.model_dump(mode="json", include=USED)}
    libraries = (*LIBRARIES, "bitsandbytes") if config.method == "qlora" else LIBRARIES
    stage = f"finetune@{config.method}"
    with stage_output(
        out,
        stage=stage,
        parameters=parameters,
        inputs={"base": base, "data": suite},
        libraries=libraries,
        needs_bytes=3 * folder_size(base),
    ) as work:
        from stages.finetune import evaluate, merge, train, triplets, words

        prompts = prompts_of(config, model)
        splits = triplets.splits(config.data, config.seed, suite, _documents(config, scratch, work))
        splits.write(work / "triplets")
        if config.hard_negatives:
            from stages.finetune import mining

            splits = mining.run(config, base, splits, prompts)
            splits.write(work / "triplets")
        checkpoints = scratch / _key(parameters, base, work / "triplets", library_versions(libraries))
        outcome = train.run(config, model, base, splits, prompts, checkpoints, work / "adapter")
        merged, parity = merge.run(config, base, work / "adapter", work / "model")
        report = evaluate.report(config, model, splits, prompts, merge.load(base), merged)
        report |= {"best_step": outcome.best, "steps": outcome.steps, "parity": parity}
        cut, texts = triplets.longer(splits.train, base, config.max_tokens)
        said = words.of_examples(cut, texts, config.max_tokens)
        said += words.of_training(outcome.history, outcome.best, outcome.steps)
        said += words.of_evaluation(report, config.forgetting_max)
        words.curves(outcome.history, work)
        record = parameters | {
            "base": manifest.read(base).digest,
            "examples": {name: len(getattr(splits, name)) for name in triplets.SPLITS},
            "left_out": splits.dropped,
            "cut": cut,
            "parity": parity,
            "best_step": outcome.best,
            "steps": outcome.steps,
            "words": said,
        }
        (work / "training.json").write_bytes(manifest.canonical(record))
        (work / "metrics.json").write_bytes(manifest.canonical(report))
        (work / "speed.json").write_bytes(manifest.canonical(outcome.speed))
        manifest.write(work / "model", {"stage": stage, "parameters": parameters, "inputs": {"base": record["base"]}})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return report | {"words": said, "speed": outcome.speed}


def _processes(config: FinetuneSettings) -> int:
    """Return how many processes train: as configured, else one for each GPU.

    Raises:
        InputError: there are fewer GPUs, a batch has no equal parts, or this process is one of several already.
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
            f"finetune: batch_size {config.batch_size} has no equal parts for {processes} GPUs. Change it, or set "
            "finetune.processes."
        )
    return processes


def prompts_of(config: FinetuneSettings, model: Model) -> dict[str, str]:
    """Return column -> the text before it, for the columns that have a prompt.

    Raises:
        InputError: the model has prompts, but not the named one.
    """
    found = {}
    for column, name in config.prompts.model_dump().items():
        if name is not None and model.prompts:
            if name not in model.prompts:
                raise InputError(
                    f"finetune.prompts.{column}: {model.repo} has no prompt {name!r}, only {sorted(model.prompts)}."
                )
            found[column] = model.prompts[name]
    return found


def _documents(config: FinetuneSettings, scratch: Path, work: Path) -> "list[Any] | None":
    """Return the examples made of a folder of documents; None for other sources."""
    if config.data.source != "documents":
        return None
    from stages.finetune import documents, llm

    found = documents.passages(Path(str(config.data.path)).expanduser())
    if config.data.llm is None:
        return documents.by_structure(found)
    examples, refused = llm.by_questions(found, config.data.llm, scratch / "replies")
    (work / "questions.json").write_bytes(manifest.canonical({"accepted": len(examples), "refused": refused}))
    return examples


def _key(parameters: dict[str, Any], base: Path, examples: Path, libraries: dict[str, str]) -> str:
    """Return the name of the checkpoints' folder: the digest of everything that the training depends on."""
    files = {name: manifest.sha256(examples / name) for name in manifest.files_of(examples)}
    parts = [parameters, manifest.read(base).digest, files, libraries]
    return hashlib.sha256(manifest.canonical(parts)).hexdigest()[:16]
