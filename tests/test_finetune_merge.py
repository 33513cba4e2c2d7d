"""finetune: what is trained has a place in the base model's files, by whatever names, or is refused before any work."""

import shutil

import pytest
import torch
from embed_foundry import InputError, manifest
from safetensors.torch import load_file, save_file

from stages import finetune
from stages.common.sources import similarity
from stages.finetune import merge
from stages.finetune.tensor_places import find_stored, read_values
from support import architectures, tiny_finetune
from support.saved_models import WEIGHTS, edit_weights


def rename(change):
    """Return a function that renames the tensors of a model's file."""

    def apply(folder):
        tensors = load_file(folder / WEIGHTS)
        save_file({change(name): tensor for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})

    return apply


def name_as_in_2018(name):
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def duplicate(tensors):
    tensors["bert.embeddings.word_embeddings.weight"] = tensors["embeddings.word_embeddings.weight"] + 1


def remove_pooler(tensors):
    for part in ("weight", "bias"):
        del tensors[f"pooler.dense.{part}"]


def model(params):
    return params.model.model_copy(
        update={"repo": "someone/tiny", "dimensions": architectures.WIDTH, "matryoshka": [architectures.WIDTH]}
    )


@pytest.fixture
def full(root):
    return tiny_finetune.compose_settings(root, "full", **{"data.path": "mine.jsonl"})


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_every_weight_of_every_architecture_can_be_merged(name, saved, full, tmp_path):
    """All weights are changed, merged, and loaded again."""
    base = saved(name)
    merge.require_mergeable(full.finetune, model(full), base)
    loaded = merge.load_model(base)
    manifest.write(shutil.copytree(base, tmp_path / "base"), {"stage": "download"})
    with torch.no_grad():
        for weight in loaded.parameters():
            weight.add_(0.5)
    changed = dict(loaded.named_parameters())
    merge.write_merged(tmp_path / "base", read_values(loaded, find_stored(loaded, base, changed)), tmp_path / "out")
    merged = dict(merge.load_model(tmp_path / "out").named_parameters())
    assert set(merged) == set(changed)
    assert all(torch.equal(merged[name], changed[name]) for name in changed)


@pytest.mark.parametrize(
    "change",
    [rename(name_as_in_2018), rename("bert.{}".format), edit_weights(remove_pooler)],
    ids=["names of 2018", "names of a model with a task", "no pooler"],
)
def test_all_weights_are_trained_and_merged_under_the_names_that_the_files_have(
    change, copy, root, tmp_path, monkeypatch
):
    base = copy("bert")
    change(base)
    manifest.write(base, {"stage": "download"})
    place = tiny_finetune.write_examples(tmp_path)
    pairs = {task: rated[:5] for task, rated in similarity.load_pairs().items()}
    monkeypatch.setattr(similarity, "load_pairs", lambda: pairs)
    monkeypatch.chdir(place)
    params = tiny_finetune.compose_settings(root, "full", epochs=0.7)
    finetune.run(params.finetune, model(params), base, place / "data", tmp_path / "out", tmp_path / "scratch")
    old, new = (load_file(folder / WEIGHTS) for folder in (base, tmp_path / "out" / "model"))
    assert set(old) == set(new)
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved == {name for name in old if "pooler" not in name and "position_ids" not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_weights(duplicate), r"embeddings\.word_embeddings\.weight is trained, but the files have .* and .*"),
    ],
)
def test_what_could_not_be_merged_is_refused_before_any_work(change, message, copy, root, tmp_path, monkeypatch):
    """Even before the examples are read, which an LLM may be paid for."""
    base = copy("bert")
    change(base)
    manifest.write(base, {"stage": "download"})
    (tmp_path / "data").mkdir()
    manifest.write(tmp_path / "data", {"stage": "data"})
    params = tiny_finetune.compose_settings(root, "full")
    with pytest.raises(InputError, match=message + r".*finetune=lora"):
        finetune.run(params.finetune, model(params), base, tmp_path / "data", tmp_path / "out", tmp_path / "scratch")


def test_a_tensor_that_loading_changes_is_refused(copy, full, monkeypatch):
    base = copy("bert")
    real = merge.load_model

    def load(folder):
        loaded = real(folder)
        with torch.no_grad():
            loaded.get_parameter("0.model.encoder.layer.1.output.dense.weight").mul_(2)
        return loaded

    monkeypatch.setattr(merge, "load_model", load)
    with pytest.raises(InputError, match=r"transformers changes encoder\.layer\.1\.output\.dense\.weight as it loads"):
        merge.require_mergeable(full.finetune, model(full), base)


def test_an_adapter_needs_only_its_layers(copy, root):
    base = copy("bert")
    edit_weights(duplicate)(base)
    params = tiny_finetune.compose_settings(root, "lora")
    merge.require_mergeable(params.finetune, model(params), base)
    with pytest.raises(InputError, match="Add its attention's linear layers"):
        merge.require_mergeable(params.finetune, model(params), copy("t5"))


def test_the_other_files_of_weights_in_a_folder_are_no_weights_of_the_model(copy, full):
    base = copy("bert")
    shutil.copyfile(base / WEIGHTS, base / "consolidated.safetensors")
    merge.require_mergeable(full.finetune, model(full), base)
