"""manifest.json finds and names every change to a folder, and to itself."""

import json
import os
from pathlib import Path

import pytest
from embed_foundry import IntegrityError, manifest

CONTENT = {"a.bin": bytes(range(256)), "deep/er/b.txt": b"text\n", "empty": b"", "ünïcode.txt": b"x"}


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "folder"
    for name, data in CONTENT.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    manifest.write(path, {"stage": "convert@x", "parameters": {"seed": 10868376}})
    return path


def test_intact_folder_verifies_and_lists_what_it_holds(folder):
    body = manifest.verify(folder)
    assert sorted(body.files) == sorted(CONTENT)
    assert body.files["a.bin"].size == 256
    assert body.stage == "convert@x"
    assert body == manifest.read(folder)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FAULTS = {
    "flipped": ("a.bin", flip, "has sha256"),
    "truncated": ("a.bin", lambda path: os.truncate(path, 255), "has 255 bytes"),
    "emptied": ("deep/er/b.txt", lambda path: os.truncate(path, 0), "has 0 bytes"),
    "extended": ("empty", lambda path: path.write_bytes(b"!"), "has 1 bytes"),
    "removed": ("ünïcode.txt", Path.unlink, "missing, the manifest lists it"),
    "added": ("deep/new", lambda path: path.write_bytes(b""), "not listed"),
    "added manifest": ("deep/manifest.json", lambda path: path.write_bytes(b"{}"), "not listed"),
    "link": (
        "a.bin",
        lambda path: (path.rename(path.parent.parent / "a"), path.symlink_to("../a")),
        "not a regular file",
    ),
    "dangling link": ("new", lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    "folder link": ("new", lambda path: path.symlink_to("deep", target_is_directory=True), "not a regular file"),
    "fifo": ("new", os.mkfifo, "not a regular file"),
    "file became a folder": ("a.bin", lambda path: (path.unlink(), path.mkdir()), "missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_change_is_named_with_the_next_step(folder, fault):
    name, damage, words = FAULTS[fault]
    damage(folder / name)
    with pytest.raises(IntegrityError, match=words) as caught:
        manifest.verify(folder)
    assert str(folder / name) in str(caught.value)
    next_step = "rm -r" if words == "not listed" else "convert@x"
    assert next_step in str(caught.value) or "link" in fault or fault == "fifo"


def test_every_changed_byte_of_the_manifest_itself_is_found(folder):
    path = folder / manifest.NAME
    whole = path.read_bytes()
    # One bit, all bits, and the bytes that JSON reads as something: 1e868376 for 10868376 is beyond floats.
    for offset, byte in enumerate(whole):
        for other in {byte ^ 1, byte ^ 0x80, byte ^ 0xFF, *b'0e"}, \\\n'} - {byte}:
            path.write_bytes(whole[:offset] + bytes([other]) + whole[offset + 1 :])
            with pytest.raises(IntegrityError, match=r"manifest\.json: (changed|not a readable)"):
                manifest.read(folder)
    path.write_bytes(whole)
    manifest.verify(folder)


FORGED = {
    "missing": None,
    "empty": b"",
    "cut": b'{"digest": "',
    "a list": b"[]",
    "a number": b"1",
    "no digest": b"{}",
    "NaN": b'{"digest": "x", "value": NaN}',
    "beyond floats": b'{"digest": "x", "size": 1e999}',
    "lone surrogate": b'{"digest": "x", "name": "\\ud800"}',
    "not UTF-8": b'{"digest": "\xff"}',
}


@pytest.mark.parametrize("case", FORGED)
def test_what_is_no_manifest_is_refused(folder, case):
    (folder / manifest.NAME).unlink()
    if (data := FORGED[case]) is not None:
        (folder / manifest.NAME).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        manifest.verify(folder)


def test_manifest_of_another_schema_names_both(folder):
    manifest.write(folder, {})
    body = json.loads((folder / manifest.NAME).read_bytes())
    later = {key: value for key, value in body.items() if key != "digest"} | {"schema": 99}
    manifest.write(folder, later)  # fields come after the writer's own schema, so this is a whole manifest of schema 99
    with pytest.raises(IntegrityError, match="has manifest schema 99, this version reads 1"):
        manifest.verify(folder)


def test_same_content_gives_the_same_digest_wherever_and_however_it_is_made(folder, tmp_path):
    other = tmp_path / "elsewhere"
    for name in reversed(list(CONTENT)):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(CONTENT[name])
        (other / name).chmod(0o600)
        os.utime(other / name, (0, 0))
    manifest.write(other, {"parameters": {"seed": 10868376}, "stage": "convert@x"})
    assert (other / manifest.NAME).read_bytes() == (folder / manifest.NAME).read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"deep": [float("-inf")]}])
def test_canonical_json_refuses_what_json_cannot_say(value):
    with pytest.raises(ValueError):
        manifest.canonical(value)


def test_canonical_json_is_one_encoding():
    assert manifest.canonical({"b": 1, "a": "é"}) == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()
    assert manifest.canonical({"a": "é", "b": 1}) == manifest.canonical({"b": 1, "a": "é"})


def test_a_stage_that_would_break_a_message_is_refused(tmp_path):
    manifest.write(tmp_path, {"stage": "data\nrm -r /", "parameters": {}})
    with pytest.raises(IntegrityError, match="is no name") as caught:
        manifest.read(tmp_path)
    assert "\n" not in str(caught.value)
