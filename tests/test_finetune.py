"""finetune: trains, restores the best checkpoint, merges only what was trained, and continues after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
import torch
from embed_foundry import InputError, IntegrityError, Variant, manifest
from safetensors.torch import load_file

from stages import convert, finetune
from stages.common.sources import similarity
from support.tiny_finetune import compose_settings, files, model, write_place

STEPS = 6


@pytest.fixture
def similarity_of_five(monkeypatch):
    """Grade fewer pairs: random weights have nothing to forget."""
    fewer = {name: pairs[:5] for name, pairs in similarity.load_pairs().items()}
    monkeypatch.setattr(similarity, "load_pairs", lambda: fewer)


@pytest.fixture(scope="module")
def place(base, tmp_path_factory):
    """Return a folder with a tiny Gemma3, an empty suite and examples."""
    return write_place(tmp_path_factory.mktemp("finetune"), base / "tokenizer.json")


@pytest.fixture(scope="module")
def tuned(place, root, tmp_path_factory):
    """Return the default run's folder and report."""
    params = compose_settings(root)
    out, scratch = tmp_path_factory.mktemp("tuned") / "out", tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        report = finetune.run(params.finetune, model(params), place / "base", place / "data", out, scratch)
    assert list(scratch.iterdir()) == [], "checkpoints are gone"
    return out, report


@pytest.fixture
def tune(place, root, tmp_path, monkeypatch, similarity_of_five):
    """Return a function that runs the stage."""
    monkeypatch.chdir(place)

    def run(name="out", method="lora", **changes):
        params = compose_settings(root, method, **changes)
        return finetune.run(params.finetune, model(params), place / "base", place / "data", tmp_path / name, SCRATCH)

    SCRATCH = tmp_path / "scratch"  # noqa: N806
    return run


def test_only_trained_tensors_change_and_all_else_stays_byte_for_byte(tuned, place):
    out, report = tuned
    before, after = files(place / "base"), files(out / "model")
    assert set(before) == set(after)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"model.safetensors"}, "tokenizer, sliding_window and Dense heads are as they were"
    old, new = load_file(place / "base/model.safetensors"), load_file(out / "model/model.safetensors")
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved == {name for name in old if "_proj" in name and "self_attn" in name}
    assert report.metrics.parity >= 0.99999
    assert set(report.metrics.retrieval) == {"48", "24"}


def test_records_and_the_adapter_are_written_beside_the_model(tuned, place):
    out, report = tuned
    assert manifest.verify(out).stage == manifest.verify(out / "model").stage == "finetune@lora"
    record = json.loads((out / "training.json").read_text())
    assert record["base"] == manifest.read(place / "base").digest
    assert record["best_step"] == report.metrics.best_step <= record["steps"]
    assert json.loads((out / "metrics.json").read_text()) == asdict(report.metrics)
    adapter = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["r"], adapter["lora_alpha"]) == ("someone/tiny", 8, 16)
    assert adapter["target_modules"] == sorted(adapter["target_modules"]), "whatever Python's hash seed is"
    assert not any(str(place).encode() in content for name, content in files(out).items())
    steps = [line.split(",")[0] for line in (out / "dev.csv").read_text().splitlines()]
    assert steps == ["step", "0", "2", "4", "6"][: len(steps)]
    assert {"seconds", "tokens_per_s", "rss_mb"} <= set(json.loads((out / "speed.json").read_text()))


def test_same_seed_same_bytes_and_another_seed_others(tune, tuned, tmp_path):
    tune("again")
    tune("other", seed=1, epochs=0.7)
    for part in ("adapter", "model"):
        assert files(tmp_path / "again" / part) == files(tuned[0] / part)
    name = "model/model.safetensors"
    assert (tmp_path / "other" / name).read_bytes() != (tuned[0] / name).read_bytes()


def test_the_merged_weights_are_those_of_the_best_checkpoint_and_not_the_last(tune, place, tmp_path, monkeypatch):
    """Planted: the dev score is best at step 2 of 6."""
    from stages.finetune import checkpoints, evaluate, trainer

    scores = ({"48": 0.0, "24": 0.0, "ndcg": score} for score in (0.1, 0.9, 0.5, 0.6))
    monkeypatch.setattr(evaluate.RetrievalEvaluator, "__call__", lambda *_, **__: next(scores))
    saved, real = {}, trainer.Trainer._save

    def save(self, output_dir=None, state_dict=None):
        real(self, output_dir, state_dict)
        saved[self.state.global_step] = load_file(f"{output_dir}/{checkpoints.TENSORS_FILE}")

    monkeypatch.setattr(trainer.Trainer, "_save", save)
    report = tune()
    assert (report.metrics.best_step, report.metrics.steps) == (2, STEPS)
    assert "took the weights of step 2 of 6" in report.notes[0]
    old, new = (load_file(folder / "model.safetensors") for folder in (place / "base", tmp_path / "out" / "model"))
    layer = "layers.1.self_attn.v_proj"
    for step in saved:
        low, high = (saved[step][f"0.model.{layer}.lora_{side}.default.weight"] for side in "AB")
        merged = old[f"{layer}.weight"] + 16 / 8 * high @ low
        assert torch.allclose(merged, new[f"{layer}.weight"], atol=1e-6) == (step == 2), step


def test_several_questions_on_a_passage_are_all_trained_on(tune, place, tmp_path, monkeypatch):
    """20 passages with 10 questions each: an epoch of two batches has every question of train once."""
    from stages.finetune import trainer

    labels, real = [], trainer.Trainer.compute_loss

    def compute_loss(self, model, inputs, *args, **kwargs):
        if self.model.training:
            labels.append(inputs["label"].tolist())
        return real(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer.Trainer, "compute_loss", compute_loss)
    path = place / "many.jsonl"
    rows = [{"anchor": f"question {q} about {p}", "positive": f"passage {p}"} for p in range(20) for q in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tune(**{"data.path": "many.jsonl", "batch_size": 64, "epochs": 1})
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["examples"] == {"train": 120, "dev": 40, "held_out": 40}
    assert record["left_out"] == {}
    assert sorted(number for batch in labels for number in batch) == list(range(120))
    assert [len(batch) for batch in labels] == [60, 60]


def test_training_ends_early_without_a_gain(tune, monkeypatch):
    from stages.finetune import evaluate

    monkeypatch.setattr(evaluate.RetrievalEvaluator, "__call__", lambda *_, **__: {"48": 0.1, "24": 0.1, "ndcg": 0.1})
    report = tune(epochs=9, patience=2)
    assert (report.metrics.best_step, report.metrics.steps) == (2, 6)
    assert any("do not use this model" in line for line in report.notes)


def test_after_a_kill_it_continues_from_the_last_checkpoint_to_the_same_bytes(place, root, tuned, monkeypatch):
    """SIGKILL after the first checkpoint, and a truncated second one; the bytes are those of an undisturbed run."""
    code = (
        "import sys, pathlib, yaml; sys.path[:0] = [sys.argv[1]]; import test_finetune as t;"
        "params = t.compose_settings(pathlib.Path(sys.argv[2])); place = pathlib.Path(sys.argv[3]);"
        "folders = [place / name for name in ('base', 'data', 'killed', 'kept')];"
        "t.finetune.run(params.finetune, t.model(params), *folders)"
    )
    command = [sys.executable, "-c", code, str(root / "tests"), str(root), str(place)]
    process = subprocess.Popen(command, cwd=place, env=os.environ | {"PYTHONPATH": str(root)}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 400
    while not (states := list((place / "kept").glob("*/checkpoint-2/trainer_state.json"))):
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (place / "killed").exists()
    truncated = states[0].parent.with_name("checkpoint-4")
    truncated.mkdir(exist_ok=True)
    (truncated / "trainer_state.json").write_text("{")
    params = compose_settings(root)
    monkeypatch.chdir(place)
    report = finetune.run(
        params.finetune, model(params), place / "base", place / "data", place / "killed", place / "kept"
    )
    assert report.metrics.steps == STEPS
    assert files(place / "killed" / "model") == files(tuned[0] / "model")


def test_a_non_finite_loss_keeps_the_best_adapter_and_names_the_batch(tune, tmp_path, monkeypatch):
    from stages.finetune import trainer

    real = trainer.SentenceTransformerTrainer.training_step
    monkeypatch.setattr(
        trainer.SentenceTransformerTrainer,
        "training_step",
        lambda self, *args: real(self, *args) * (float("nan") if self.state.global_step == 4 else 1),
    )
    with pytest.raises(InputError, match=r"step 5: the loss is nan, with batch_size 16, mini_batch_size 8") as caught:
        tune()
    (adapter,) = tmp_path.glob("scratch/*/adapter")
    assert str(adapter) in str(caught.value)
    assert (adapter / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_out_of_memory_names_the_batch(tune, monkeypatch, error):
    from stages.finetune import trainer

    def step(*_):
        raise error

    monkeypatch.setattr(trainer.SentenceTransformerTrainer, "training_step", step)
    with pytest.raises(InputError, match=r"step 1: out of memory, with batch_size 16, mini_batch_size 8"):
        tune()


def test_a_token_limit_without_room_for_a_text_is_refused_before_training(tune):
    with pytest.raises(InputError, match=r"max_tokens is 2, but 2 special tokens .* at least 3"):
        tune(max_tokens=2)


def test_qlora_on_a_cpu_trains_merges_and_converts_to_int8(tune, root, recipes, params, place, tmp_path):
    from bitsandbytes.nn import Linear4bit

    from stages.finetune import trained_model

    base = trained_model.prepare_model(compose_settings(root, "qlora").finetune, model(params), place / "base")
    layers = [module for module in base.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 3 * 7, "attention and feed-forward of three layers"
    assert {layer.weight.quant_type for layer in layers} == {"nf4"}
    assert all(layer.weight.quant_state.nested for layer in layers), "doubly quantised"
    first = compute_gradient(base)
    base.encode(["An evaluation goes before."])
    assert first.norm() > 0
    assert torch.equal(compute_gradient(base), first), "4-bit layers pass all gradients on, after an evaluation too"
    report = tune(method="qlora")
    assert report.metrics.parity >= 0.99999
    folder = tmp_path / "out" / "model"
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.float32}
    variant = convert.run(
        "onnx_int8", recipes["onnx_int8"], model(params), folder, tmp_path / "onnx_int8", cache=tmp_path / "cache"
    )
    assert variant.parity["cosine_min"] > 0.95
    assert Variant.load(tmp_path / "onnx_int8").space_id == convert.compute_space_id(folder, model(params), None)
    assert variant.space_id != convert.compute_space_id(place / "base", model(params), None), (
        "another space than the base's"
    )


def compute_gradient(trained):
    """Return the gradient of the first layer's adapter, which has gone through every other layer."""
    trained.train()
    trained.zero_grad()
    torch.manual_seed(0)
    trained(trained.preprocess(["a text", "another one"]))["sentence_embedding"].sum().backward()
    return trained.get_parameter("0.model.layers.0.self_attn.v_proj.lora_B.default.weight").grad.clone()


def test_heads_full_checkpointing_and_mined_negatives(tune, place, tmp_path):
    tune("heads", heads=True, gradient_checkpointing=True, epochs=0.7)
    before, after = files(place / "base"), files(tmp_path / "heads" / "model")
    assert {name for name in before if before[name] != after[name]} == {
        "model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors"
    }  # fmt: skip
    tune("full", method="full", epochs=0.7, hard_negatives=1)
    old, new = (load_file(folder / "model.safetensors") for folder in (place / "base", tmp_path / "full" / "model"))
    assert not torch.equal(old["layers.0.mlp.up_proj.weight"], new["layers.0.mlp.up_proj.weight"])
    examples = [json.loads(line) for line in (tmp_path / "full/triplets/train.jsonl").read_text().splitlines()]
    assert {len(row["negatives"]) for row in examples} <= {0, 1}
    assert any(row["negatives"] for row in examples)


def test_a_wrong_merge_is_found(tune, monkeypatch):
    from stages.finetune import merge

    real = merge.write_merged

    def skip_one(base, changed, out):
        real(base, dict(list(changed.items())[1:]), out)

    monkeypatch.setattr(merge, "write_merged", skip_one)
    with pytest.raises(IntegrityError, match="least cosine"):
        tune(epochs=0.7)


@pytest.mark.gpu
def test_on_a_gpu_in_4_bits_and_bf16(tune):
    report = tune(method="qlora")
    assert report.metrics.parity >= 0.99999
    assert report.speed.vram_mb > 0
