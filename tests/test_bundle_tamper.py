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
def copy(released, tmp_path_factory) -> Path:
    """Return a copy of the bundle that a test may change if it changes it back."""
    return shutil.copytree(released.folder, tmp_path_factory.mktemp("copy") / "release")


def verify(folder: Path, capsys) -> tuple[int, str]:
    """Run `embed-foundry verify` in this process; return its exit code and stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(folder)])
    return ended.value.code, capsys.readouterr().err


def test_verify_passes_and_prints_the_self_tests(released, console):
    done = console("verify", released.folder)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == ORDER
    assert all(float(line.split()[-1]) > 0.99999 for line in lines[:-2])
    assert lines[-2].startswith("unsigned")
    assert lines[-1] == f"{released.folder}: verified, digest {manifest.read(released.folder).digest}"


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_one_flipped_byte_in_any_file_is_found_and_named(copy, capsys):
    names = [*manifest.files_of(copy), manifest.NAME]
    assert len(names) > 20
    for name in names:
        size = (copy / name).stat().st_size
        for offset in {0, size // 2, size - 1}:
            flip(copy / name, offset)
            code, message = verify(copy, capsys)
            assert (code, str(copy / name) in message) == (3, True), f"{name} at {offset}: {message}"
            flip(copy / name, offset)
    assert verify(copy, capsys)[0] == 0


@pytest.mark.parametrize("name", ["bundle.json", "variants/onnx_int8/model.onnx", "evidence/verdict.json"])
def test_the_console_script_ends_with_3_and_names_the_file(copy, console, name):
    flip(copy / name, 20)
    done = console("verify", copy)
    flip(copy / name, 20)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: {copy / name}: has sha256")
    assert len(done.stderr.splitlines()) == 1


def test_an_added_removed_or_linked_file_is_found(copy, capsys, tmp_path):
    (copy / "variants" / "static" / "more.txt").write_text("")
    code, message = verify(copy, capsys)
    assert code == 3
    assert "variants/static/more.txt: not listed in the manifest" in message
    (copy / "variants" / "static" / "more.txt").unlink()
    weights = copy / "variants" / "static" / "table.safetensors"
    weights.rename(tmp_path / "table")
    code, message = verify(copy, capsys)
    assert code == 3
    assert f"{weights}: missing, the manifest lists it" in message
    weights.symlink_to(tmp_path / "table")
    code, message = verify(copy, capsys)
    assert code == 3
    assert f"{weights}: is not a regular file" in message
    weights.unlink()
    (tmp_path / "table").rename(weights)
    assert verify(copy, capsys)[0] == 0


def test_what_is_no_bundle_is_refused(released, capsys, tmp_path):
    assert verify(tmp_path / "nowhere", capsys)[0] == 2
    code, message = verify(tmp_path, capsys)
    assert code == 3
    assert "manifest.json: missing" in message
    code, message = verify(released.folder / "variants" / "static", capsys)  # whole, but only a variant
    assert code == 3
    assert "this is not a release bundle" in message


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_bytes(manifest.canonical(value))


def other_verdict(folder: Path) -> None:
    edit(folder / contract.VERDICT, lambda value: value.update(target="elsewhere"))


def lenient_verdict(folder: Path) -> None:
    edit(folder / contract.VERDICT, lambda value: value["variants"]["static"]["checks"][0].update(bound=1e9))


def more_passing(folder: Path) -> None:
    edit(folder / contract.VERDICT, lambda value: value["release"]["passing"].append("fp32"))


def failing_variant(folder: Path) -> None:
    edit(folder / contract.VERDICT, lambda value: value["variants"]["static"].update(passes=False))


def other_catalog(folder: Path) -> None:
    edit(folder / contract.CATALOG / "catalog.json", lambda value: value.update(static="0" * 64))
    small_release.refit(folder / contract.CATALOG)


def other_variant(folder: Path) -> None:
    shutil.rmtree(folder / "variants" / "onnx_int8")
    shutil.copytree(folder / "variants" / "static", folder / "variants" / "onnx_int8")


def other_weights(folder: Path) -> None:
    flip(folder / "variants" / "static" / "table.safetensors", 5000)
    small_release.refit(folder / "variants" / "static")


def one_space(folder: Path) -> None:
    edit(folder / contract.NAME, lambda value: value["variants"]["static"].update(SHARED))


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
    code, message = verify(folder, capsys)
    assert code == 3
    assert SWAPS[swap] in message
    assert len(message.splitlines()) == 1


def test_a_variant_with_another_digest_than_bundle_json_says_is_named(released, tmp_path, capsys):
    folder = shutil.copytree(released.folder, tmp_path / "release")
    other_weights(folder)
    small_release.seal(folder)
    code, message = verify(folder, capsys)
    assert (code, f"{folder / 'variants' / 'static'}: digest is" in message) == (3, True), message


def test_another_bundles_manifest_is_refused(copy, released, capsys, tmp_path):
    shutil.copy(copy / "variants" / "static" / manifest.NAME, tmp_path / manifest.NAME)
    shutil.copy(copy / manifest.NAME, tmp_path / "own")
    shutil.copy(tmp_path / manifest.NAME, copy / manifest.NAME)
    code, message = verify(copy, capsys)
    shutil.copy(tmp_path / "own", copy / manifest.NAME)
    assert code == 3
    assert "not listed in the manifest" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("variants"),
        lambda value: value.update(variants=[]),
        lambda value: value["selection"].update(order=["static"]),
        lambda value: value["variants"]["static"].update(bits="many"),
        lambda value: value["variants"]["static"].pop("measured"),
        lambda value: value["target"].update(name="../elsewhere"),
        lambda value: value["variants"].update({"../../static": value["variants"].pop("static")}),
    ],
)
def test_a_malformed_bundle_json_is_refused_with_a_reason(released, tmp_path, change):
    shutil.copy(released.folder / contract.NAME, tmp_path)
    edit(tmp_path / contract.NAME, change)
    manifest.write(tmp_path, {"stage": "bundle"})
    with pytest.raises(IntegrityError, match=r"bundle\.json: (not what|order|'\.\./)"):
        Bundle.load(tmp_path)
