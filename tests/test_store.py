"""Releases in a store, S3 and a folder alike: published completely or not at all, and fetched the same."""

import hashlib
import re
import shutil
from typing import Any

import pytest
from embed_foundry import Bundle, IntegrityError, manifest
from embed_foundry.store import open_store
from embed_foundry.store.store import manifest_key, object_key

from support.release_stores import read_digest, read_moves, write_signature


def test_publish_promote_rollback_and_fetch(release_store, run_command, first_release, second_release, tmp_path):
    a, b = read_digest(first_release), read_digest(second_release)
    assert run_command("publish", first_release)[:2] == (0, a)
    assert run_command("promote", "canary", f"{first_release}/")[:2] == (0, f"canary: moved from none to {a}")
    assert run_command("promote", "stable", "canary")[:2] == (0, f"stable: moved from none to {a}")
    code, out, err = run_command("publish", second_release)
    assert (code, out) == (0, b)
    new, objects = map(int, re.search(r"uploaded (\d+) of (\d+) objects, 0.[01] MB", err).groups())
    assert 0 < new < objects / 2, "the store already has weights, probes, evidence and wheel"
    assert run_command("promote", "stable", b, "--reason", "faster")[:2] == (0, f"stable: moved from {a} to {b}")
    assert run_command("promote", "stable", b)[:2] == (0, f"stable: is already at {b}")
    assert run_command("history")[1].split() == ["canary", a, "stable", b]
    assert run_command("rollback", "stable", "--reason", "slower\n*   9")[:2] == (0, f"stable: moved from {b} to {a}")
    assert read_moves(run_command) == [("promote", a), ("promote", b), ("rollback", a)]
    assert "slower * 9" in run_command("history", "stable")[1]
    code, out, err = run_command("fetch", "stable", tmp_path / "fetched")
    assert (code, "B/s" in err) == (0, True)
    assert out.startswith(f"{tmp_path / 'fetched'}: verified, holds release {a}")
    assert Bundle.load(tmp_path / "fetched").digest == a
    same = {
        name: (tmp_path / "fetched" / name).read_bytes() == (first_release / name).read_bytes()
        for name in manifest.files_of(first_release)
    }
    assert set(same.values()) == {True}
    assert run_command("fetch", b, tmp_path / "fetched")[0] == 0, "replaces another release"
    assert Bundle.load(tmp_path / "fetched").digest == b


def test_objects_are_named_by_their_content(release_store, run_command, first_release):
    run_command("publish", first_release)
    objects = [key for key in release_store.list_published() if key.startswith("objects/")]
    assert len(objects) == len(set(manifest.read(first_release).hashes.values()))
    assert all(hashlib.sha256(release_store.read(key)).hexdigest() == key.rpartition("/")[2] for key in objects)
    assert release_store.read(manifest_key(read_digest(first_release))) == (first_release / manifest.NAME).read_bytes()


def test_publishing_again_changes_nothing(release_store, run_command, first_release):
    run_command("publish", first_release)
    before = {key: release_store.read(key) for key in release_store.list_published()}
    code, out, err = run_command("publish", first_release)
    assert (code, out) == (0, read_digest(first_release))
    assert "uploaded 0 of" in err
    assert {key: release_store.read(key) for key in release_store.list_published()} == before


def test_a_dry_run_reports_and_changes_nothing(release_store, run_command, first_release, second_release, tmp_path):
    code, out, err = run_command("publish", first_release, "--dry-run")
    assert (code, out) == (0, read_digest(first_release))
    assert "would upload variants/static/table.safetensors" in err
    assert release_store.store.list_keys("") == []
    run_command("publish", first_release)
    run_command("publish", second_release)
    assert (
        run_command("promote", "stable", read_digest(first_release), "--dry-run")[1]
        == f"stable: would move from none to {read_digest(first_release)}"
    )
    assert run_command("history")[1] == ""
    run_command("promote", "stable", read_digest(first_release))
    run_command("promote", "stable", read_digest(second_release))
    moves = read_moves(run_command)
    assert (
        run_command("rollback", "stable", "--dry-run")[1]
        == f"stable: would move from {read_digest(second_release)} to {read_digest(first_release)}"
    )
    assert run_command("fetch", "stable", tmp_path / "fetched", "--dry-run")[0] == 0
    assert not (tmp_path / "fetched").exists()
    assert read_moves(run_command) == moves


def test_wrong_bytes_under_an_objects_name_stop_publishing(release_store, run_command, first_release):
    entry = manifest.read(first_release).files["variants/static/table.safetensors"]
    release_store.put(object_key(entry.sha256), bytes(entry.size))
    code, out, err = run_command("publish", first_release)
    assert (code, out) == (3, "")
    assert object_key(entry.sha256) in err
    assert "came back as" in err
    assert [key for key in release_store.list_published() if key.startswith("releases/")] == []
    release_store.remove(object_key(entry.sha256))
    assert run_command("publish", first_release)[0] == 0


def test_another_manifest_under_the_same_digest_is_never_overwritten(release_store, run_command, first_release):
    release_store.put(manifest_key(read_digest(first_release)), b"{}")
    code, _, err = run_command("publish", first_release)
    assert (code, "releases are immutable" in err) == (5, True)
    assert release_store.read(manifest_key(read_digest(first_release))) == b"{}"
    assert run_command("promote", "stable", read_digest(first_release))[0] == 3


def test_only_complete_releases_are_promoted(release_store, run_command, first_release, second_release):
    for release in (read_digest(first_release), f"{first_release}/", "canary"):
        assert run_command("promote", "stable", release)[0] == 2
    run_command("publish", first_release)
    run_command("publish", second_release)
    run_command("promote", "stable", read_digest(second_release))
    key = object_key(manifest.read(first_release).hashes["bundle.json"])
    whole = release_store.read(key)
    release_store.put(key, whole[:-1])
    for fault in (f"has {len(whole) - 1} bytes", "is missing"):
        code, _, err = run_command("promote", "stable", read_digest(first_release))
        assert (code, fault in err, "bundle.json" in err) == (3, True, True)
        if fault != "is missing":
            release_store.remove(key)
    assert read_moves(run_command) == [("promote", read_digest(second_release))]
    assert run_command("publish", first_release)[0] == 0
    assert run_command("promote", "stable", read_digest(first_release))[0] == 0


def test_a_broken_download_never_becomes_a_folder(release_store, run_command, first_release, second_release, tmp_path):
    run_command("publish", first_release)
    run_command("publish", second_release)
    run_command("fetch", read_digest(first_release), tmp_path / "fetched")
    entry = manifest.read(second_release).files["evidence/verdict.json"]
    whole = release_store.read(object_key(entry.sha256))
    for broken in (whole[:-1], whole + b"x", whole.replace(b"t", b"f", 1)):
        release_store.put(object_key(entry.sha256), broken)
        for folder in ("fetched", "new"):
            assert run_command("fetch", read_digest(second_release), tmp_path / folder)[0] == 3
    release_store.remove(object_key(entry.sha256))
    code, _, err = run_command("fetch", read_digest(second_release), tmp_path / "new")
    assert (code, "missing. Publish the release again" in err) == (3, True)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} - {"store"} == {"fetched"}
    assert Bundle.load(tmp_path / "fetched").digest == read_digest(first_release)
    assert list(tmp_path.glob(".*.partial")) == []


def test_a_signature_goes_with_its_release(release_store, run_command, make_release, tmp_path):
    """The store carries the files; tests of signing check whether they are right."""
    signed, unsigned = tmp_path / "build" / "release", make_release(2, "static")
    shutil.copytree(make_release(1, "static").parent, signed.parent)
    signature = write_signature(signed)
    for text in ("first", "second"):  # signing again gives other bytes
        (signature / "model.sig").write_text(text)
        assert ", signed" in run_command("publish", signed)[2]
    assert ", unsigned" in run_command("publish", unsigned)[2]
    fetched = tmp_path / "fetched"
    assert run_command("fetch", read_digest(signed), fetched)[0] == 0
    assert (tmp_path / "fetched.signature" / "model.sig").read_text() == "second"
    shutil.rmtree(tmp_path / "fetched.signature")
    assert run_command("fetch", read_digest(signed), fetched)[0] == 0, "the release is there, its signature not"
    assert (tmp_path / "fetched.signature" / "model.sig").read_text() == "second"
    key = object_key(manifest.read(unsigned).hashes["bundle.json"])
    data = release_store.read(key)
    release_store.put(key, b"broken")
    assert run_command("fetch", read_digest(unsigned), fetched)[0] == 3
    assert (tmp_path / "fetched.signature" / "model.sig").read_text() == "second", (
        "the release that stays keeps its own"
    )
    release_store.put(key, data)
    assert run_command("fetch", read_digest(unsigned), fetched)[0] == 0
    assert not (tmp_path / "fetched.signature").exists(), "it belonged to the other release"
    release_store.put(f"releases/{read_digest(signed)}/signature/a/b", b"x")
    assert run_command("fetch", read_digest(signed), fetched)[0] == 3
    assert Bundle.load(fetched).digest == read_digest(unsigned)


def test_fetch_replaces_releases_only(release_store, run_command, first_release, tmp_path):
    run_command("publish", first_release)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, err = run_command("fetch", read_digest(first_release), tmp_path / "mine")
    assert (code, "is not a release" in err) == (2, True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    run_command("fetch", read_digest(first_release), tmp_path / "fetched")
    (tmp_path / "fetched" / "NOTICE").write_text("changed")
    assert run_command("fetch", read_digest(first_release), tmp_path / "fetched")[0] == 0
    assert Bundle.load(tmp_path / "fetched").digest == read_digest(first_release)


HOSTILE: dict[str, Any] = {
    "../outside": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},
    "/tmp/outside": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},  # noqa: S108 - never written
    "a/../../outside": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},
    "a//b": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},
    "key": {"sha256": "../../channels/stable.json", "size": 1},
    "size": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": -1},
    "nothing": {},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_writes_nothing(release_store, run_command, tmp_path, name):
    """Its digest is right: an attacker with write access to the store made it."""
    body: dict[str, Any] = {"schema": 1, "stage": "bundle", "files": {name: HOSTILE[name]}}
    body["digest"] = hashlib.sha256(manifest.canonical(body)).hexdigest()
    release_store.put(manifest_key(body["digest"]), manifest.canonical(body))
    release_store.put(object_key(hashlib.sha256(b"x").hexdigest()), b"x")
    code, _, err = run_command("fetch", body["digest"], tmp_path / "deep" / "fetched")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "lies outside a release" in err or "is not the manifest of this digest" in err
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("address", ["release", "http://x/y", "s3://", "s3:///prefix", "file://"])
def test_bad_addresses_are_refused(run_command, address):
    code, _, err = run_command("history", "--store", address)
    assert (code, "expected s3://BUCKET[/PREFIX] or file://FOLDER" in err) == (2, True)


def test_a_folder_that_cannot_hold_a_store_is_refused(run_command, first_release, tmp_path):
    (tmp_path / "file").write_text("")
    assert run_command("publish", first_release, "--store", f"file://{tmp_path / 'file'}")[0] == 2


def test_what_a_killed_upload_left_is_removed_but_not_an_upload_in_progress(tmp_path):
    address = f"file://{tmp_path / 'store'}"
    uploads = tmp_path / "store" / "uploads"
    uploads.mkdir(parents=True)
    (uploads / "leftover").write_bytes(b"half")
    store = open_store(address, None)
    source = tmp_path / "x"
    source.write_bytes(b"whole")
    # Another publisher cleans up while an upload is in progress.
    store.create("objects/sha256/x", source, lambda _: store.remove_stale_uploads())
    assert store.read("objects/sha256/x").data == b"whole"
    assert list(uploads.iterdir()) == []
    with pytest.raises(IntegrityError, match="missing"):
        list(store.stream("objects/sha256/y"))
