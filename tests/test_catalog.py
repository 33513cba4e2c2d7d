"""catalog lists exactly the configured variants, removes leftovers of earlier choices, and binds readers to digests."""

import json
import shutil
from pathlib import Path

import pytest
from embed_foundry import IntegrityError, manifest

from stages import catalog
from stages.common.records.catalog import Catalog, load_catalogued_variants
from support import tiny_static


@pytest.fixture
def variants(tmp_path) -> Path:
    """Return a folder of three small variants."""
    for name in ("fp32", "int8", "static"):
        write_variant(tmp_path / "variants" / name, weights=name)
    return tmp_path / "variants"


def write_variant(folder: Path, weights: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = tiny_static.describe(folder.name, {"table": "weights"})
    (folder / "variant.json").write_bytes(manifest.canonical(record.to_json()))
    (folder / "weights").write_text(weights)
    manifest.write(folder, {"stage": f"convert@{folder.name}"})


def test_lists_the_named_variants_in_their_order_by_digest(variants, tmp_path):
    digests = catalog.run(dict.fromkeys(["static", "fp32", "int8"], "static"), variants, tmp_path / "catalog")
    assert digests == {name: manifest.read(variants / name).digest for name in ("static", "fp32", "int8")}
    assert json.loads((tmp_path / "catalog" / Catalog.FILE).read_text()) == digests
    folders = load_catalogued_variants(tmp_path / "catalog", variants)
    assert folders == {name: variants / name for name in sorted(digests)}


def test_removes_leftover_variants_and_nothing_else(variants, tmp_path):
    write_variant(variants / ".other.partial", "a conversion that runs")
    (variants / "notes").mkdir()
    (variants / "README").write_text("mine")
    catalog.run(dict.fromkeys(["fp32"], "static"), variants, tmp_path / "catalog")
    assert {path.name for path in variants.iterdir()} == {"fp32", ".other.partial", "notes", "README"}
    assert list(load_catalogued_variants(tmp_path / "catalog", variants)) == ["fp32"]


def test_same_variants_give_the_same_bytes_whatever_else_lies_there(variants, tmp_path):
    catalog.run(dict.fromkeys(["fp32", "int8"], "static"), variants, tmp_path / "a")
    shutil.rmtree(variants / "int8")
    write_variant(variants / "int8", "int8")
    write_variant(variants / "stray", "stray")
    catalog.run(dict.fromkeys(["fp32", "int8"], "static"), variants, tmp_path / "b")
    assert (tmp_path / "a" / manifest.NAME).read_bytes() == (tmp_path / "b" / manifest.NAME).read_bytes()


@pytest.mark.parametrize("missing", ["one", "all"])
def test_a_missing_variant_is_refused_with_its_manifest_named(variants, tmp_path, missing):
    shutil.rmtree(variants / "int8" if missing == "one" else variants)
    with pytest.raises(IntegrityError, match=r"int8.manifest\.json: missing"):
        catalog.run(dict.fromkeys(["int8", "fp32"], "static"), variants, tmp_path / "catalog")
    assert not (tmp_path / "catalog").exists()


def test_a_changed_variant_is_refused_with_its_stage(variants, tmp_path):
    (variants / "int8" / "weights").write_text("int9")
    with pytest.raises(IntegrityError, match=r"weights: has sha256 .* convert@int8"):
        catalog.run(dict.fromkeys(["fp32", "int8"], "static"), variants, tmp_path / "catalog")


def test_a_folder_that_holds_another_variant_is_refused(variants, tmp_path):
    shutil.rmtree(variants / "int8")
    shutil.copytree(variants / "fp32", variants / "int8")  # whole in itself, so its manifest finds no fault
    with pytest.raises(
        IntegrityError, match=r"int8: holds the variant fp32 of kind static, expected int8 of .* repro convert@int8"
    ):
        catalog.run(dict.fromkeys(["fp32", "int8"], "static"), variants, tmp_path / "catalog")
    assert not (tmp_path / "catalog").exists()


def test_a_variant_of_another_kind_under_the_same_name_is_refused(variants, tmp_path):
    with pytest.raises(
        IntegrityError, match=r"int8: holds the variant int8 of kind static, expected int8 of kind onnx"
    ):
        catalog.run({"fp32": "static", "int8": "onnx"}, variants, tmp_path / "catalog")
    assert not (tmp_path / "catalog").exists()


def test_readers_refuse_a_variant_that_is_not_the_catalogued_one(variants, tmp_path):
    catalog.run(dict.fromkeys(["fp32", "int8"], "static"), variants, tmp_path / "catalog")
    write_variant(variants / "int8", "another conversion, whole in itself")
    with pytest.raises(IntegrityError, match=r"int8: has digest .*the catalog lists .*repro convert@int8 catalog"):
        load_catalogued_variants(tmp_path / "catalog", variants)


def test_readers_refuse_a_changed_catalog(variants, tmp_path):
    catalog.run(dict.fromkeys(["fp32"], "static"), variants, tmp_path / "catalog")
    path = tmp_path / "catalog" / Catalog.FILE
    path.write_text(path.read_text().replace("fp32", "fp23"))
    with pytest.raises(IntegrityError, match=r"catalog\.json: has sha256"):
        load_catalogued_variants(tmp_path / "catalog", variants)
