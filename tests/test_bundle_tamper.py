"""A bundle that somebody changed: every kind of change is found and named, before anything is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from embed_foundry import Bundle, IntegrityError, cli, contract, manifest

from support import small_release
from support.small_release import ORDER


@pytest.fixture(scope="module")
def mine(released, tmp_path_factory) -> Path:
    """Return a copy of the bundle that a test may change if it changes it back."""
    return shutil.copytree(released.folder, tmp_path_factory.mktemp("mine") / "release")


def verify(folder: Path, capsys) -> tuple[int, str]:
    """Run `embed-foundry verify` in this process; return its exit code and stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(folder)])
    return ended.value.code, capsys.readouterr().err


def test_verify_passes_and_tells_the_self_tests(released, console):
    done = console("verify", released.folder)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == ORDER
    assert all(float(line.split()[-1]) > 0.99999 for line in lines[:-2])
    assert lines[-2].startswith("unsigned")
    assert lines[-1] == f"{released.folder}: verified, digest {manifest.read(released.folder).digest}"


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def test_one_flipped_byte_in_any_file_is_found_and_named(mine, capsys):
    names = [*manifest.files_of(mine), manifest.NAME]
    assert len(names) > 20
    for name in names:
        size = (mine / name).stat().st_size
        for at in {0, size // 2, size - 1}:
            flip(mine / name, at)
            code, said = verify(mine, capsys)
            assert (code, str(mine / name) in said) == (3, True), f"{name} at {at}: {said}"
            flip(mine / name, at)
    assert verify(mine, capsys)[0] == 0


@pytest.mark.parametrize("name", ["bundle.json", "variants/onnx_int8/model.onnx", "evidence/verdict.json"])
def test_the_console_script_ends_with_3_and_names_the_file(mine, console, name):
    flip(mine / name, 20)
    done = console("verify", mine)
    flip(mine / name, 20)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: {mine / name}: has sha256")
    assert len(done.stderr.splitlines()) == 1


def test_an_added_removed_or_linked_file_is_found(mine, capsys, tmp_path):
    (mine / "variants" / "static" / "more.txt").write_text("")
    code, said = verify(mine, capsys)
    assert code == 3
    assert "variants/static/more.txt: not listed in the manifest" in said
    (mine / "variants" / "static" / "more.txt").unlink()
    weights = mine / "variants" / "static" / "table.safetensors"
    weights.rename(tmp_path / "table")
    code, said = verify(mine, capsys)
    assert code == 3
    assert f"{weights}: missing, the manifest lists it" in said
    weights.symlink_to(tmp_path / "table")
    code, said = verify(mine, capsys)
    assert code == 3
    assert f"{weights}: is not a regular file" in said
    weights.unlink()
    (tmp_path / "table").rename(weights)
    assert verify(mine, capsys)[0] == 0


def test_what_is_no_bundle_is_refused(released, capsys, tmp_path):
    assert verify(tmp_path / "nowhere", capsys)[0] == 2
    code, said = verify(tmp_path, capsys)
    assert code == 3
    assert "manifest.json: missing" in said
    code, said = verify(released.folder / "variants" / "static", capsys)  # whole, but only a variant
    assert code == 3
    assert "this is no release bundle" in said


def test_a_bundle_for_another_runtime_names_its_wheel(released, tmp_path):
    facts = json.loads((released.folder / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps(facts | {"schema": 3}))
    manifest.write(tmp_path, {"stage": "bundle"})
    with pytest.raises(IntegrityError, match=r"has schema 3, this runtime reads 2.*wheel"):
        Bundle.load(tmp_path)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_bytes(manifest.canonical(value))


def other_verdict(folder: Path) -> None:
    edit(folder / contract.VERDICT, lambda it: it.update(target="elsewhere"))


def lenient_verdict(folder: Path) -> None:
    edit(folder / contract.VERDICT, lambda it: it["variants"]["static"]["checks"][0].update(bound=1e9))


def more_passing(folder: Path) -> None:
    edit(folder / contract.VERDICT, lambda it: it["release"]["passing"].append("fp32"))


def failing_variant(folder: Path) -> None:
    edit(folder / contract.VERDICT, lambda it: it["variants"]["static"].update(passes=False))


def other_catalog(folder: Path) -> None:
    edit(folder / contract.CATALOG / "catalog.json", lambda it: it.update(static="0" * 64))
    small_release.refit(folder / contract.CATALOG)


def other_variant(folder: Path) -> None:
    shutil.rmtree(folder / "variants" / "onnx_int8")
    shutil.copytree(folder / "variants" / "static", folder / "variants" / "onnx_int8")


def other_weights(folder: Path) -> None:
    flip(folder / "variants" / "static" / "table.safetensors", 5000)
    small_release.refit(folder / "variants" / "static")


def one_space(folder: Path) -> None:
    edit(folder / contract.NAME, lambda it: it["variants"]["static"].update(it["variants"]["static"] | SHARED))


def other_terms(folder: Path) -> None:
    (folder / "LICENSE").write_text("do what you want")


def other_materials(folder: Path) -> None:
    path = folder / contract.BOM
    path.write_text(
        path.read_text().replace(manifest.sha256(folder / "variants" / "static" / "variant.json"), "0" * 64)
    )


SHARED = {"space_id": "0" * 16}
SWAPS = {
    other_verdict: "evidence/verdict.json: target is elsewhere",
    lenient_verdict: "evidence/verdict.json: checks of static",
    more_passing: "evidence/verdict.json: passing variants",
    failing_variant: "evidence/verdict.json: passes of static is False",
    other_catalog: "evidence/verdict.json: catalog is",
    other_variant: "content is",
    other_weights: "content is",
    one_space: "evidence/verdict.json: space of static",
    other_terms: "content is",
    other_materials: "bom.cdx.json: hash of variants/static/variant.json",
}


@pytest.mark.parametrize("swap", SWAPS, ids=lambda swap: swap.__name__)
def test_parts_of_another_release_are_named_though_the_manifest_fits(released, tmp_path, swap, capsys):
    folder = shutil.copytree(released.folder, tmp_path / "release")
    swap(folder)
    small_release.refit(folder)
    code, said = verify(folder, capsys)
    assert code == 3
    assert SWAPS[swap] in said
    assert len(said.splitlines()) == 1


def test_a_variant_that_is_not_the_one_told_is_named(released, tmp_path, capsys):
    folder = shutil.copytree(released.folder, tmp_path / "release")
    other_weights(folder)
    small_release.seal(folder)
    code, said = verify(folder, capsys)
    assert (code, f"{folder / 'variants' / 'static'}: digest is" in said) == (3, True), said


def test_another_bundles_manifest_is_refused(mine, released, capsys, tmp_path):
    shutil.copy(mine / "variants" / "static" / manifest.NAME, tmp_path / manifest.NAME)
    shutil.copy(mine / manifest.NAME, tmp_path / "own")
    shutil.copy(tmp_path / manifest.NAME, mine / manifest.NAME)
    code, said = verify(mine, capsys)
    shutil.copy(tmp_path / "own", mine / manifest.NAME)
    assert code == 3
    assert "not listed in the manifest" in said


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.pop("variants"),
        lambda it: it.update(variants=[]),
        lambda it: it["selection"].update(order=["static"]),
        lambda it: it["variants"]["static"].update(bits="many"),
        lambda it: it["variants"]["static"].pop("measured"),
        lambda it: it["target"].update(name="../elsewhere"),
        lambda it: it["variants"].update({"../../static": it["variants"].pop("static")}),
    ],
)
def test_a_malformed_bundle_json_ends_in_words(released, tmp_path, change):
    shutil.copy(released.folder / contract.NAME, tmp_path)
    edit(tmp_path / contract.NAME, change)
    manifest.write(tmp_path, {"stage": "bundle"})
    with pytest.raises(IntegrityError, match=r"bundle\.json: (not what|order|'\.\./)"):
        Bundle.load(tmp_path)
