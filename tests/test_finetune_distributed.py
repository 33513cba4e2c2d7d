"""finetune: two processes on the CPU train what one does; when one fails or is killed, both end."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
import torch
from embed_foundry import InputError, IntegrityError
from safetensors.torch import load_file

from stages import finetune
from stages.common.sources import similarity
from stages.finetune.results import Speed
from support.tiny_finetune import SUBJECTS, VERBS, compose_settings, files, model, write_place

# Three batches of seven per epoch, which two processes cannot split equally. No dropout, so that only the order of sums
# differs.
SETTINGS = {
    "learning_rate": 3e-3,
    "data.examples": 21,
    "batch_size": 8,
    "mini_batch_size": 2,
    "epochs": 2,
    "lora.dropout": 0,
}
STEPS = 6
COMMAND = (
    "import sys, pathlib; sys.path[:0] = [sys.argv[1]]; import test_finetune_distributed as t;"
    "from stages.common.contract.process import run_stage;"
    "run_stage(lambda: t.tune(pathlib.Path(sys.argv[2]), pathlib.Path('killed'), pathlib.Path('kept')))"
)


def tune(root, out, scratch, **changes):
    """Run the stage in two processes, in a folder that write_place made."""
    params = compose_settings(root, **(SETTINGS | {"processes": 2} | changes))
    return finetune.run(params.finetune, model(params), out.with_name("base"), out.with_name("data"), out, scratch)


@pytest.fixture(scope="module")
def place(base, tmp_path_factory):
    """Return a folder with a tiny model and examples, which is the working directory of the module's tests."""
    folder = write_place(tmp_path_factory.mktemp("ranks"), base / "tokenizer.json")
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in write_rows()))
    # Few pairs, because random weights have nothing to forget.
    pairs = {task: rated[:5] for task, rated in similarity.load_pairs().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(similarity, "load_pairs", lambda: pairs)
        yield folder


def write_rows():
    """Yield three questions on each passage, with none, one or two negatives."""
    for subject in SUBJECTS:
        for verb in VERBS:
            for number, word in enumerate(["what", "how", "why"]):
                negatives = [f"no {subject} {verb}", f"{word} it is"][:number]
                yield {"anchor": f"{word} {verb} the {subject}", "positive": f"the {subject} {verb}"} | {
                    "negatives": negatives
                }


@pytest.fixture(scope="module")
def distributed(place, root):
    """Return the output of two processes, and its report."""
    return place / "two", tune(root, place / "two", place / "scratch")


def test_two_processes_train_what_one_does(distributed, place, root):
    """The loss gathers the texts of both, and gradients are averaged: only rounding differs.

    Batches are odd, passages have several questions, and rows have unequal numbers of negatives.
    """
    folder, report = distributed
    single = tune(root, place / "one", place / "scratch", processes=1)
    tensors, expected = (load_file(out / "adapter/adapter_model.safetensors") for out in (folder, place / "one"))
    assert set(tensors) == set(expected)
    for name in tensors:
        difference, norm = (tensors[name] - expected[name]).norm(), expected[name].norm()
        assert difference < 0.01 * norm, f"{name}: {difference} of {norm}"  # lora_B starts at zero
    assert (report.metrics.steps, report.metrics.best_step) == (STEPS, single.metrics.best_step)
    for name in ("train.csv", "dev.csv"):
        assert read_numbers(folder / name) == pytest.approx(read_numbers(place / "one" / name), abs=2e-3)
    assert report.speed.tokens == single.speed.tokens
    records = [json.loads((out / "training.json").read_text()) for out in (folder, place / "one")]
    assert records[0]["left_out"] == records[1]["left_out"]
    assert any(note.startswith("negatives of their own: ") for note in report.notes)


def read_numbers(path):
    return [float(field) for line in path.read_text().splitlines()[1:] for field in line.split(",")]


@pytest.mark.slow
def test_after_any_end_of_a_process_all_end_and_the_next_run_gives_the_same_bytes(
    distributed, place, root, monkeypatch
):
    """The stage is terminated; it is killed; one of its processes runs out of memory while the other waits for it."""
    from stages.finetune import train

    start_and_signal(place, root, lambda: len(find_ranks(os.getpid(), recursive=True)) == 2, signal.SIGTERM, 130)
    start_and_signal(place, root, lambda: list((place / "kept").glob("*/checkpoint-2/*state.json")), signal.SIGKILL, -9)
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_in_process", train_out_of_memory)
        with pytest.raises(InputError, match=r"finetune: step 5: out of memory, with batch_size 8, mini_batch_size 2"):
            tune(root, place / "killed", place / "kept")
    assert find_ranks(os.getpid()) == []
    (adapter,) = place.glob("kept/*/adapter")
    assert (adapter / "adapter_model.safetensors").is_file()
    assert not (place / "killed").exists()
    report = tune(root, place / "killed", place / "kept")
    assert report.metrics.steps == STEPS
    for part in ("adapter", "model"):
        assert files(place / "killed" / part) == files(distributed[0] / part)


def start_and_signal(place, root, is_ready, number, code):
    """Start the stage and send it a signal when it is ready; it exits with the code and leaves no process."""
    command = [sys.executable, "-c", COMMAND, str(root / "tests"), str(root)]
    process = subprocess.Popen(command, cwd=place, env=os.environ | {"PYTHONPATH": str(root)}, stderr=subprocess.PIPE)
    while not is_ready():
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    stderr = process.communicate()[1].decode()
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert psutil.wait_procs(family, timeout=20)[1] == []


def find_ranks(pid, recursive=False):
    """Return the ranks that a process started; recursive: or any process under it."""
    children = psutil.Process(pid).children(recursive=recursive)
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]


def train_out_of_memory(run):
    """Replace train_in_process: at the fifth step the second rank has no memory, and the first waits for it."""
    from stages.finetune import train, trainer

    real = trainer.SentenceTransformerTrainer.training_step

    def step(self, *rest):
        if os.environ["RANK"] == "1" and self.state.global_step == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")
        return real(self, *rest)

    trainer.SentenceTransformerTrainer.training_step = step
    return train.train_in_process(run)


def test_different_weights_at_the_end_are_found(place, root, tmp_path, monkeypatch):
    from stages.finetune import train

    outcome = train.TrainingOutcome([], 2, STEPS, Speed(1, 1, 1, 1, 1), "digest")
    monkeypatch.setattr(train, "launch", lambda *_: [outcome, replace(outcome, digest="another")])
    with pytest.raises(IntegrityError, match="2 processes ended with different weights"):
        tune(root, place / "apart", tmp_path)


def test_what_several_processes_cannot_share_is_refused(place, root, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="batch_size 9 is not divisible by processes 2"):
        compose_settings(root, processes=2, batch_size=9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(InputError, match="batch_size 8 is not divisible by 3 GPUs"):
        tune(root, place / "few", tmp_path, processes=None)
    with pytest.raises(InputError, match=r"finetune.processes: 4, but there are 3 GPUs"):
        tune(root, place / "few", tmp_path, processes=4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"Run it without a launcher and set finetune\.processes"):
        tune(root, place / "few", tmp_path)


def test_one_process_with_several_gpus_does_not_get_data_parallel(root, tmp_path, monkeypatch):
    from stages.finetune import arguments

    monkeypatch.setattr(arguments.SentenceTransformerTrainingArguments, "n_gpu", 3)
    built = arguments.build_arguments(compose_settings(root, processes=1).finetune, 24, {}, tmp_path, fresh=True)
    assert built._n_gpu == 1
