"""finetune: trains, goes back to the best checkpoint, merges what was trained and nothing else, and can be killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from embed_foundry import InputError, IntegrityError, Variant, manifest
from safetensors.torch import load_file

from stages import convert, finetune
from stages.commands import compose
from stages.common import config
from stages.common.sources import similarity
from support import tiny_gemma

STEPS = 6
SUBJECTS = ["river", "engine", "bread", "violin", "planet", "carpet", "island", "pepper", "window", "battle", "winter"]
VERBS = ["moves", "holds", "breaks", "follows"]


def composed(root, method="lora", **changes):
    """Return the configuration of a few small steps."""
    small = {"epochs": 3, "batch_size": 16, "mini_batch_size": 8, "eval_steps": 2, "max_tokens": 32} | {
        "learning_rate": 1e-2,
        "patience": 9,
        "data.source": "triplets",
        "data.path": "mine.jsonl",
        "data.dev": 0.2,
    }
    overrides = [f"finetune.{key}={json.dumps(value)}" for key, value in (small | changes).items()]
    return config.parse(yaml.safe_load(compose.compose([f"finetune={method}", *overrides], root / "conf")), "conf/")


@pytest.fixture
def similarity_of_five(monkeypatch):
    """Grade fewer pairs: random weights have nothing to forget."""
    found = {name: pairs[:5] for name, pairs in similarity.load_pairs().items()}
    monkeypatch.setattr(similarity, "pairs", lambda: found)


@pytest.fixture(scope="module")
def place(base, tmp_path_factory):
    """Return a folder with a tiny Gemma3, an empty suite and examples."""
    return write_place(tmp_path_factory.mktemp("finetune"), base / "tokenizer.json")


def write_place(folder, tokenizer):
    """Write a tiny Gemma3, an empty suite and examples into a folder and return it."""
    # bitsandbytes takes rows of whole blocks of 64 on a CPU.
    tiny_gemma.write(folder / "base", tokenizer, num_attention_heads=4, intermediate_size=128)
    (folder / "data").mkdir()
    manifest.write(folder / "data", {"stage": "data"})
    rows = [
        {"anchor": f"what {verb} the {subject}", "positive": f"the {subject} {verb} slowly, as a {subject} does"}
        for subject in [*SUBJECTS, "garden"]
        for verb in VERBS
    ]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def tuned(place, root, tmp_path_factory):
    """Return the default run's folder and report."""
    params = composed(root)
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
        params = composed(root, method, **changes)
        return finetune.run(params.finetune, model(params), place / "base", place / "data", tmp_path / name, SCRATCH)

    SCRATCH = tmp_path / "scratch"  # noqa: N806
    return run


def model(params):
    return params.model.model_copy(
        update={"repo": "someone/tiny", "dimensions": 48, "matryoshka": [48, 24], "max_tokens": 64}
    )


def files(folder):
    return {name: (folder / name).read_bytes() for name in manifest.files_of(folder)}


def test_only_trained_tensors_change_and_all_else_stays_byte_for_byte(tuned, place):
    out, report = tuned
    before, after = files(place / "base"), files(out / "model")
    assert set(before) == set(after)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"model.safetensors"}, "tokenizer, sliding_window and Dense heads are as they were"
    old, new = load_file(place / "base/model.safetensors"), load_file(out / "model/model.safetensors")
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved == {name for name in old if "_proj" in name and "self_attn" in name}
    assert report["parity"] >= 0.99999
    assert set(report["retrieval"]) == {"48", "24"}


def test_the_record_and_the_adapter_stand_beside_the_model(tuned, place):
    out, report = tuned
    assert manifest.verify(out).stage == manifest.verify(out / "model").stage == "finetune@lora"
    record = json.loads((out / "training.json").read_text())
    assert record["base"] == manifest.read(place / "base").digest
    assert record["best_step"] == report["best_step"] <= record["steps"]
    assert json.loads((out / "metrics.json").read_text())["retrieval"] == report["retrieval"]
    adapter = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["r"], adapter["lora_alpha"]) == ("someone/tiny", 8, 16)
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


def test_the_merged_weights_are_the_best_checkpoints_not_the_last_ones(tune, place, tmp_path, monkeypatch):
    """Planted: the dev score is best at step 2 of 6."""
    from stages.finetune import evaluate, trainer

    scores = iter([0.1, 0.9, 0.5, 0.6])
    monkeypatch.setattr(evaluate.Retrieval, "__call__", lambda *_, **__: {"48": 0.0, "24": 0.0, "ndcg": next(scores)})
    kept, real = {}, trainer.Trainer._save

    def save(self, output_dir=None, state_dict=None):
        real(self, output_dir, state_dict)
        kept[self.state.global_step] = load_file(f"{output_dir}/{trainer.TRAINED}")

    monkeypatch.setattr(trainer.Trainer, "_save", save)
    report = tune()
    assert (report["best_step"], report["steps"]) == (2, STEPS)
    assert "took the weights of step 2 of 6" in report["words"][0]
    old, new = (load_file(folder / "model.safetensors") for folder in (place / "base", tmp_path / "out" / "model"))
    layer = "layers.1.self_attn.v_proj"
    for step in kept:
        low, high = (kept[step][f"0.model.{layer}.lora_{side}.default.weight"] for side in "AB")
        merged = old[f"{layer}.weight"] + 16 / 8 * high @ low
        assert torch.allclose(merged, new[f"{layer}.weight"], atol=1e-6) == (step == 2), step


def test_training_ends_early_without_a_gain(tune, monkeypatch):
    from stages.finetune import evaluate

    monkeypatch.setattr(evaluate.Retrieval, "__call__", lambda *_, **__: {"48": 0.1, "24": 0.1, "ndcg": 0.1})
    report = tune(epochs=9, patience=2)
    assert (report["best_step"], report["steps"]) == (2, 6)
    assert any("do not use this model" in line for line in report["words"])


def test_killed_it_goes_on_from_its_last_checkpoint_to_the_same_bytes(place, root, tuned, monkeypatch):
    """SIGKILL after the first checkpoint, a cut second one; then the same bytes as without."""
    code = (
        "import sys, pathlib, yaml; sys.path[:0] = [sys.argv[1]]; import test_finetune as t;"
        "params = t.composed(pathlib.Path(sys.argv[2])); here = pathlib.Path(sys.argv[3]);"
        "t.finetune.run(params.finetune, t.model(params), here / 'base', here / 'data', here / 'killed', here / 'kept')"
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
    cut = states[0].parent.with_name("checkpoint-4")
    cut.mkdir(exist_ok=True)
    (cut / "trainer_state.json").write_text("{")
    params = composed(root)
    monkeypatch.chdir(place)
    report = finetune.run(
        params.finetune, model(params), place / "base", place / "data", place / "killed", place / "kept"
    )
    assert report["steps"] == STEPS
    assert files(place / "killed" / "model") == files(tuned[0] / "model")


def test_a_loss_that_is_no_number_keeps_the_best_adapter_and_names_the_batch(tune, tmp_path, monkeypatch):
    from stages.finetune import trainer

    real = trainer.SentenceTransformerTrainer.training_step
    monkeypatch.setattr(
        trainer.SentenceTransformerTrainer,
        "training_step",
        lambda self, *rest: real(self, *rest) * (float("nan") if self.state.global_step == 4 else 1),
    )
    with pytest.raises(InputError, match=r"step 5: the loss is nan, with batch_size 16, mini_batch_size 8") as caught:
        tune()
    (kept,) = tmp_path.glob("scratch/*/adapter")
    assert str(kept) in str(caught.value)
    assert (kept / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_out_of_memory_is_told(tune, monkeypatch, error):
    from stages.finetune import trainer

    def step(*_):
        raise error

    monkeypatch.setattr(trainer.SentenceTransformerTrainer, "training_step", step)
    with pytest.raises(InputError, match=r"step 1: out of memory, with batch_size 16, mini_batch_size 8"):
        tune()


def test_qlora_on_a_cpu_trains_merges_and_converts_to_int8(tune, root, recipes, params, place, tmp_path):
    from bitsandbytes.nn import Linear4bit

    from stages.finetune import student

    base = student.prepare(composed(root, "qlora").finetune, model(params), place / "base")
    four = [part for part in base.modules() if isinstance(part, Linear4bit)]
    assert len(four) == 3 * 7, "attention and feed-forward of three layers"
    assert {part.weight.quant_type for part in four} == {"nf4"}
    assert all(part.weight.quant_state.nested for part in four), "doubly quantised"
    report = tune(method="qlora")
    assert report["parity"] >= 0.99999
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
    assert {len(row["negatives"]) for row in examples} == {1}


def test_a_wrong_merge_is_found(tune, monkeypatch):
    from stages.finetune import merge

    real = merge.write
    monkeypatch.setattr(merge, "write", lambda base, changed, out: real(base, dict(list(changed.items())[1:]), out))
    with pytest.raises(IntegrityError, match="least cosine"):
        tune(epochs=0.7)


def test_an_unknown_architecture_and_prompt_are_told(root):
    from stages.finetune import student, train

    params = composed(root)
    with pytest.raises(InputError, match=r"'llama'\. Add its attention's linear layers"):
        student.layers(params.finetune, "llama")
    with pytest.raises(InputError, match="has no prompt 'query', only"):
        finetune.prompts_of(params.finetune, params.model.model_copy(update={"prompts": {"other": "x"}}))
    assert train.before(["anchor", "positive", "negative_1"], {"anchor": "q: ", "negative": "d: "}) == {
        "anchor": "q: ", "negative_1": "d: "
    }  # fmt: skip
    some = params.model.model_copy(update={"prompts": {"query": "q: ", "document": "d: "}})
    assert finetune.prompts_of(params.finetune, some) == {"anchor": "q: ", "positive": "d: ", "negative": "d: "}


@pytest.mark.gpu
def test_on_a_gpu_in_4_bits_and_bf16(tune):
    report = tune(method="qlora")
    assert report["parity"] >= 0.99999
    assert report["speed"]["vram_mb"] > 0
