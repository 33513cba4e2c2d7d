"""compare and map: may a new release search the old index, and what takes it there."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from embed_foundry import Bundle, IntegrityError, manifest
from embed_foundry.cli import main
from embed_foundry.spaces.linear_map import LinearMap
from embed_foundry.store.store import object_key
from pyarrow import parquet

from stages.commands import sign
from support import small_release
from support.release_stores import read_digest
from support.spaces import change_static, read_passages, write_task, write_words


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    folder = write_task(tmp_path_factory.mktemp("task") / "Halves")
    write_words(folder / "words.txt")
    return folder


@pytest.fixture(scope="module")
def release_of(released, base, converted, root, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that makes a release whose static variant has another space: see `change_static`."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        target = released.target.model_copy(update={"candidates": ["static"]})
        changed = change_static(converted, folder, name)
        return small_release.start(folder / "build", base, changed, released.model, target, root).release()

    return make


@pytest.fixture(scope="module")
def turned(release_of) -> Path:
    return release_of("turned")


@pytest.fixture(scope="module")
def written_map(make_release, turned, task, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("maps") / "to-turned"
    command = ["compare", make_release(1, "static"), turned, *texts_of(task), "--write-map", folder]
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in command])
    assert ended.value.code == 0
    return folder


def texts_of(task: Path) -> list[str | Path]:
    """Return the options that name a task, and the texts that a map is fitted to."""
    return ["--task", task, "--fit", task / "words.txt"]


def compare(run_command, *args: str | Path) -> dict:
    code, output, errors = run_command("compare", *args, "--format", "json")
    assert code == 0, errors
    return json.loads(output)


def test_two_releases_of_the_same_files_are_identical_without_a_text(run_command, first_release, second_release):
    assert read_digest(first_release) != read_digest(second_release)
    code, output, _ = run_command("compare", first_release, second_release)
    assert (code, output.splitlines()[0].split(":")[0]) == (0, "identical bytes")
    assert "Keep the index." in output


@pytest.mark.parametrize("labelled", [True, False])
def test_two_precisions_of_a_model_share_a_space(run_command, make_release, task, tmp_path, labelled):
    old, new = make_release(1, "onnx_fp32"), make_release(1, "onnx_int8")
    texts = ["--task", task]
    if not labelled:
        for name in ("queries", "corpus"):
            shutil.copy(task / f"{name}.jsonl", tmp_path)
        texts = ["--queries", tmp_path / "queries.jsonl", "--documents", tmp_path / "corpus.jsonl"]
    answer = compare(run_command, old, new, *texts)
    (measured,) = answer["tasks"]
    assert answer["answer"] == "same space"
    assert measured["labelled"] is labelled
    assert (measured["quality"] is not None) is labelled
    assert measured["mapped"] is None
    assert answer["differences"]["variant"] == ["onnx_fp32", "onnx_int8"]
    for mix in ("new_over_old", "old_over_new"):
        assert 0.95 <= measured[mix]["low"] <= measured[mix]["estimate"] <= measured[mix]["high"]
    assert 0.8 < measured["overlap"] < 1


def test_truncated_vectors_of_the_same_files_share_their_space(run_command, first_release, second_release):
    answer = compare(run_command, first_release, second_release, "--old-dimensions", "128")
    assert answer["answer"] == "same space"
    assert answer["reason"].endswith("but for their length: truncate queries to the index's 128 dimensions.")
    answer = compare(run_command, first_release, second_release, "--new-dimensions", "128")
    assert "truncate the index to 128 dimensions" in answer["reason"]
    code, _, errors = run_command("compare", first_release, second_release, "--new-dimensions", "9999")
    assert code == 2
    assert "9999 dimensions are out of range for static: 1 to" in errors


def test_a_turned_space_is_mapped_without_loss(run_command, first_release, turned, task):
    answer = compare(run_command, first_release, turned, *texts_of(task))
    (measured,) = answer["tasks"]
    assert answer["answer"] == "mappable"
    assert measured["new_over_old"]["high"] < 0.5
    assert measured["mapped"]["low"] > 0.95


def test_a_foreign_space_is_embedded_again(run_command, first_release, release_of, task):
    answer = compare(run_command, first_release, release_of("foreign"), *texts_of(task))
    assert answer["answer"] == "re-embed"
    assert answer["tasks"][0]["mapped"]["low"] < 0.95
    assert "A linear map of the old index keeps" in answer["reason"]


def test_vectors_of_another_length_are_never_the_same_space(run_command, make_release, task):
    old, new = make_release(1, "static"), make_release(1, "onnx_int8")
    code, output, _ = run_command("compare", old, new, *texts_of(task))
    assert code == 0
    assert output.splitlines()[0].split(": ")[1].startswith("The vectors differ in length.")


def test_a_comparison_as_markdown_has_whole_tables(run_command, first_release, turned, task):
    _, output, _ = run_command("compare", first_release, turned, *texts_of(task), "--format", "markdown")
    assert output.startswith("**mappable**: Queries by the new release over an index by the old one keep")
    rows = [line for line in output.splitlines() if line.startswith("| Halves")]
    assert [line.count(" | ") for line in rows] == [6]


def test_an_index_is_mapped_file_by_file(run_command, first_release, turned, written_map, tmp_path):
    passages = read_passages()
    old, new = (Bundle.load(folder).open("static").encode(passages) for folder in (first_release, turned))
    np.save(tmp_path / "old.npy", old)
    code, output, errors = run_command("map", tmp_path / "old.npy", "--map", written_map, "--out", tmp_path / "new.npy")
    assert code == 0, errors
    assert f"release {read_digest(turned)}" in output
    mapped = np.load(tmp_path / "new.npy")
    assert (mapped * new).sum(axis=1).min() > 0.98
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-6)
    table = pa.table({"id": list(range(len(old))), "vector": list(old.astype(np.float16)), "text": passages})
    parquet.write_table(table, tmp_path / "old.parquet")
    code, _, errors = run_command(
        "map", tmp_path / "old.parquet", "--map", written_map, "--out", tmp_path / "new.parquet"
    )
    assert code == 0, errors
    after = parquet.read_table(tmp_path / "new.parquet")
    assert after.column("text").to_pylist() == passages
    np.testing.assert_allclose(np.array(after.column("vector").to_pylist()), mapped, atol=2e-3)


def test_a_map_takes_only_its_own_spaces_vectors(run_command, written_map, tmp_path):
    np.save(tmp_path / "short.npy", np.ones((3, 7), np.float32))
    code, _, errors = run_command("map", tmp_path / "short.npy", "--map", written_map, "--out", tmp_path / "out.npy")
    assert code == 2
    assert "has vectors of 7 dimensions, this map takes" in errors
    broken = np.full((3, LinearMap.read(written_map).source.dimensions), np.nan, np.float32)
    np.save(tmp_path / "nan.npy", broken)
    code, _, errors = run_command("map", tmp_path / "nan.npy", "--map", written_map, "--out", tmp_path / "out.npy")
    assert code == 3
    assert "first that of text 0, 'row 0'" in errors
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_changed_or_unsigned_map_is_refused(run_command, written_map, tmp_path):
    copy = shutil.copytree(written_map, tmp_path / "copy")
    matrix = copy / "map.safetensors"
    matrix.write_bytes(matrix.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match=r"map\.safetensors"):
        LinearMap.read(copy)


def test_a_map_is_signed_and_checked(run_command, first_release, turned, task, tmp_path):
    private, public = sign.generate_key_pair(tmp_path / "key")
    _, other = sign.generate_key_pair(tmp_path / "other")
    folder = tmp_path / "map"
    command = ("compare", first_release, turned, *texts_of(task), "--write-map", folder)
    assert run_command(*command, "--sign-key", private)[0] == 0
    np.save(tmp_path / "old.npy", Bundle.load(first_release).open("static").encode(read_passages()[:3]))
    move = ("map", tmp_path / "old.npy", "--map", folder, "--out", tmp_path / "new.npy")
    assert run_command(*move, "--key", public)[0] == 0
    assert run_command(*move, "--key", other)[0] == 3
    (tmp_path / "map.signature.json").unlink()
    code, _, errors = run_command(*move, "--key", public)
    assert code == 3
    assert "is not signed: map.signature.json is missing" in errors


def test_a_channel_moves_to_another_space_only_if_the_move_says_so(
    release_store, run_command, first_release, second_release, turned, written_map
):
    for release in (first_release, second_release, turned):
        run_command("publish", release)
    assert run_command("promote", "stable", read_digest(first_release))[0] == 0
    assert run_command("promote", "stable", read_digest(second_release))[0] == 0, "the same space"
    code, _, errors = run_command("promote", "stable", read_digest(turned))
    assert code == 4
    assert "it would search an index of other vectors" in errors
    assert run_command("promote", "stable", read_digest(turned), "--map", written_map)[0] == 0
    code, _, errors = run_command("promote", "stable", read_digest(first_release), "--map", written_map)
    assert code == 4
    assert "the map is from space" in errors
    assert run_command("promote", "stable", read_digest(first_release), "--new-space")[0] == 0


def test_a_channel_stays_where_the_next_release_does_not_say_its_space(
    release_store, run_command, first_release, second_release
):
    for release in (first_release, second_release):
        run_command("publish", release)
    run_command("promote", "stable", read_digest(first_release))
    key = object_key(manifest.read(second_release).hashes["bundle.json"])
    release_store.put(key, release_store.read(key)[:-1] + b" ")
    code, _, errors = run_command("promote", "stable", read_digest(second_release))
    assert code == 3
    assert "bundle.json is missing or was changed" in errors
    assert run_command("history", "stable")[1].count("\n") == 0


def test_compare_takes_a_digest_a_channel_and_a_tar(
    run_command, release_store, first_release, second_release, tmp_path
):
    run_command("publish", first_release)
    run_command("promote", "stable", read_digest(first_release))
    code, _, errors = run_command("pack", second_release, "--out", tmp_path / "new.tar")
    assert code == 0, errors
    for name in (read_digest(first_release), "stable"):
        assert compare(run_command, name, tmp_path / "new.tar")["answer"] == "identical bytes"


def test_compare_takes_a_git_revision_of_a_build(run_command, first_release, second_release, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    for number, release in enumerate((first_release, second_release)):
        shutil.rmtree("release", ignore_errors=True)
        shutil.copytree(release, "release")
        subprocess.run(["dvc", "add", "-q", "release"], check=True)
        subprocess.run(["git", "add", "."], check=True)
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *author, "commit", "-qm", str(number)], check=True)
    answer = compare(run_command, "HEAD~1", "HEAD")
    assert answer["old"]["release"] == read_digest(first_release)
    assert answer["new"]["release"] == read_digest(second_release)


def test_a_name_of_nothing_is_refused_in_one_line(run_command, first_release):
    code, _, errors = run_command("compare", first_release, "no such thing")
    assert code == 2
    assert errors == (
        "error: no such thing: is no folder, tar, digest, channel or git revision. Name a release, such as release/ or "
        "stable.\n"
    )
