"""finetune: two processes on the CPU train what one does; one that fails or is killed takes the other along."""

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
from test_finetune import composed, files, model, write_place

from stages import finetune
from stages.common.sources import similarity

# Three whole batches an epoch: of two processes none has a part of a batch. Without dropout, so that only sums differ.
SAME = {
    "learning_rate": 3e-3,
    "data.examples": 24,
    "batch_size": 8,
    "mini_batch_size": 2,
    "epochs": 2,
    "lora.dropout": 0,
}
STEPS = 6
COMMAND = (
    "import sys, pathlib; sys.path[:0] = [sys.argv[1]]; import test_finetune_ranks as t;"
    "from stages.common.artifact import run_stage;"
    "run_stage(lambda: t.tune(pathlib.Path(sys.argv[2]), pathlib.Path('killed'), pathlib.Path('kept')))"
)


def tune(root, out, scratch, **changes):
    """Run the stage in two processes, in a folder that write_place made."""
    params = composed(root, **(SAME | {"processes": 2} | changes))
    return finetune.run(params.finetune, model(params), out.with_name("base"), out.with_name("data"), out, scratch)


@pytest.fixture(scope="module")
def place(base, tmp_path_factory):
    """Return a folder with the adapters of one process and of two; it is the working directory meanwhile."""
    folder = write_place(tmp_path_factory.mktemp("ranks"), base / "tokenizer.json")
    pairs = {name: some[:5] for name, some in similarity.load_pairs().items()}  # random weights have nothing to forget
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(similarity, "pairs", lambda: pairs)
        yield folder


@pytest.fixture(scope="module")
def two(place, root):
    """Return the folder that two processes made, and its report."""
    return place / "two", tune(root, place / "two", place / "scratch")


def test_two_processes_train_what_one_does(two, place, root):
    """The loss gathers the texts of both, and gradients are averaged: but for rounding the same steps."""
    folder, report = two
    alone = tune(root, place / "one", place / "scratch", processes=1)
    mine, theirs = (load_file(out / "adapter/adapter_model.safetensors") for out in (folder, place / "one"))
    assert set(mine) == set(theirs)
    for name in mine:
        apart, moved = (mine[name] - theirs[name]).norm(), theirs[name].norm()
        assert apart < 0.01 * moved, f"{name}: {apart} of {moved}"  # lora_B starts at nought
    assert (report["steps"], report["best_step"]) == (STEPS, alone["best_step"])
    for name in ("train.csv", "dev.csv"):
        assert numbers(folder / name) == pytest.approx(numbers(place / "one" / name), abs=2e-3)
    assert report["speed"]["tokens"] == alone["speed"]["tokens"]


def numbers(path):
    return [float(field) for line in path.read_text().splitlines()[1:] for field in line.split(",")]


@pytest.mark.slow
def test_whatever_ends_one_process_ends_all_and_it_goes_on_to_the_same_bytes(two, place, root, monkeypatch):
    """The stage is terminated, is killed, one of its processes runs out of memory while the other waits for it."""
    from stages.finetune import train

    stopped(place, root, lambda: len(ranks(os.getpid(), deep=True)) == 2, signal.SIGTERM, 130)
    stopped(place, root, lambda: list((place / "kept").glob("*/checkpoint-2/*state.json")), signal.SIGKILL, -9)
    with monkeypatch.context() as patch:
        patch.setattr(train, "train", out_of_memory)
        with pytest.raises(InputError, match=r"finetune: step 5: out of memory, with batch_size 8, mini_batch_size 2"):
            tune(root, place / "killed", place / "kept")
    assert ranks(os.getpid()) == []
    (kept,) = place.glob("kept/*/adapter")
    assert (kept / "adapter_model.safetensors").is_file()
    assert not (place / "killed").exists()
    report = tune(root, place / "killed", place / "kept")
    assert report["steps"] == STEPS
    for part in ("adapter", "model"):
        assert files(place / "killed" / part) == files(two[0] / part)


def stopped(place, root, ready, sent, code):
    """Start the stage and send a signal when it is ready; its exit code is as expected and no process of it stays."""
    command = [sys.executable, "-c", COMMAND, str(root / "tests"), str(root)]
    process = subprocess.Popen(command, cwd=place, env=os.environ | {"PYTHONPATH": str(root)}, stderr=subprocess.PIPE)
    while not ready():
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(sent)
    said = process.communicate()[1].decode()
    assert process.returncode == code
    assert "Traceback" not in said
    assert psutil.wait_procs(family, timeout=20)[1] == []


def ranks(pid, deep=False):
    """Return the ranks that a process started; deep: or a process of it."""
    family = psutil.Process(pid).children(recursive=deep)
    return [one for one in family if any("spawn_main" in word for word in one.cmdline())]


def out_of_memory(*task):
    """Stand in for train.train in a rank: at the fifth step the second has no memory, the first waits for it."""
    from stages.finetune import train, trainer

    real = trainer.SentenceTransformerTrainer.training_step

    def step(self, *rest):
        if os.environ["RANK"] == "1" and self.state.global_step == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")
        return real(self, *rest)

    trainer.SentenceTransformerTrainer.training_step = step
    return train.train(*task)


def test_weights_that_differ_at_the_end_are_found(place, root, tmp_path, monkeypatch):
    from stages.finetune import ranks, train

    one = train.Trained([], 2, STEPS, {}, "digest")
    monkeypatch.setattr(ranks, "launch", lambda *_: [one, replace(one, digest="another")])
    with pytest.raises(IntegrityError, match="2 processes ended with different weights"):
        tune(root, place / "apart", tmp_path)


def test_what_several_processes_cannot_share_is_refused(place, root, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="batch_size 9 is not divisible by processes 2"):
        composed(root, processes=2, batch_size=9)
    with pytest.raises(InputError, match=r"24 examples in train, expected at least batch_size 32"):
        tune(root, place / "few", tmp_path, batch_size=32)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(InputError, match="batch_size 8 is not divisible by 3 GPUs"):
        tune(root, place / "few", tmp_path, processes=None)
    with pytest.raises(InputError, match=r"finetune.processes: 4, but there are 3 GPUs"):
        tune(root, place / "few", tmp_path, processes=4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"Run it without a launcher and set finetune\.processes"):
        tune(root, place / "few", tmp_path)


def test_one_process_with_several_gpus_does_not_get_data_parallel(root, tmp_path, monkeypatch):
    from stages.finetune import train

    monkeypatch.setattr(train.SentenceTransformerTrainingArguments, "n_gpu", 3)
    arguments = train._arguments(composed(root, processes=1).finetune, 24, {}, tmp_path, fresh=True)
    assert arguments._n_gpu == 1
