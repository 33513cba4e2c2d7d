"""Releases in a store, S3 and a folder alike: published whole or not at all, channels that one promotion wins."""

import hashlib
import re
import shutil
from typing import Any

import pytest
from embed_foundry import Bundle, IntegrityError, manifest

from stages.commands import promote
from stages.commands.promote.store import object_key, release_key
from support.release_stores import actions, digest


def test_the_way_of_a_release(shelf, run, one, two, tmp_path):
    a, b = digest(one), digest(two)
    assert run("publish", one)[:2] == (0, a)
    assert run("promote", "canary", f"{one}/")[:2] == (0, f"canary: moved from none to {a}")
    assert run("promote", "stable", "canary")[:2] == (0, f"stable: moved from none to {a}")
    code, out, err = run("publish", two)
    assert (code, out) == (0, b)
    new, objects = map(int, re.search(r"uploaded (\d+) of (\d+) objects, 0.[01] MB", err).groups())
    assert 0 < new < objects / 2, "weights, probes, evidence and wheel are there already"
    assert run("promote", "stable", b, "--reason", "faster")[:2] == (0, f"stable: moved from {a} to {b}")
    assert run("promote", "stable", b)[:2] == (0, f"stable: is at {b} already")
    assert run("history")[1].split() == ["canary", a, "stable", b]
    assert run("rollback", "stable", "--reason", "slower\n*   9")[:2] == (0, f"stable: moved from {b} to {a}")
    assert actions(run) == [("promote", a), ("promote", b), ("rollback", a)]
    assert "slower * 9" in run("history", "stable")[1]
    code, out, err = run("fetch", "stable", tmp_path / "got")
    assert (code, "B/s" in err) == (0, True)
    assert out.startswith(f"{tmp_path / 'got'}: verified, holds release {a}")
    assert Bundle.load(tmp_path / "got").digest == a
    same = {
        name: (tmp_path / "got" / name).read_bytes() == (one / name).read_bytes() for name in manifest.files_of(one)
    }
    assert set(same.values()) == {True}
    assert run("fetch", b, tmp_path / "got")[0] == 0, "replaces another release"
    assert Bundle.load(tmp_path / "got").digest == b


def test_objects_are_named_by_their_content(shelf, run, one):
    run("publish", one)
    objects = [key for key in shelf.named() if key.startswith("objects/")]
    assert len(objects) == len(set(manifest.read(one).hashes.values()))
    assert all(hashlib.sha256(shelf.read(key)).hexdigest() == key.rpartition("/")[2] for key in objects)
    assert shelf.read(release_key(digest(one))) == (one / manifest.NAME).read_bytes()


def test_publishing_again_changes_nothing(shelf, run, one):
    run("publish", one)
    before = {key: shelf.read(key) for key in shelf.named()}
    code, out, err = run("publish", one)
    assert (code, out) == (0, digest(one))
    assert "uploaded 0 of" in err
    assert {key: shelf.read(key) for key in shelf.named()} == before


def test_a_dry_run_tells_and_changes_nothing(shelf, run, one, two, tmp_path):
    code, out, err = run("publish", one, "--dry-run")
    assert (code, out) == (0, digest(one))
    assert "would upload variants/static/table.safetensors" in err
    assert shelf.store.keys("") == []
    run("publish", one)
    run("publish", two)
    assert run("promote", "stable", digest(one), "--dry-run")[1] == f"stable: would move from none to {digest(one)}"
    assert run("history")[1] == ""
    run("promote", "stable", digest(one))
    run("promote", "stable", digest(two))
    moves = actions(run)
    assert run("rollback", "stable", "--dry-run")[1] == f"stable: would move from {digest(two)} to {digest(one)}"
    assert run("fetch", "stable", tmp_path / "got", "--dry-run")[0] == 0
    assert not (tmp_path / "got").exists()
    assert actions(run) == moves


def test_wrong_bytes_under_an_objects_name_stop_the_publication(shelf, run, one):
    fact = manifest.read(one).files["variants/static/table.safetensors"]
    shelf.put(object_key(fact.sha256), bytes(fact.size))
    code, out, err = run("publish", one)
    assert (code, out) == (3, "")
    assert object_key(fact.sha256) in err
    assert "came back as" in err
    assert [key for key in shelf.named() if key.startswith("releases/")] == []
    shelf.remove(object_key(fact.sha256))
    assert run("publish", one)[0] == 0


def test_another_manifest_under_the_same_digest_is_never_overwritten(shelf, run, one):
    shelf.put(release_key(digest(one)), b"{}")
    code, _, err = run("publish", one)
    assert (code, "releases are immutable" in err) == (5, True)
    assert shelf.read(release_key(digest(one))) == b"{}"
    assert run("promote", "stable", digest(one))[0] == 3


def test_only_what_is_published_whole_is_promoted(shelf, run, one, two):
    for release in (digest(one), f"{one}/", "canary"):
        assert run("promote", "stable", release)[0] == 2
    run("publish", one)
    run("publish", two)
    run("promote", "stable", digest(two))
    key = object_key(manifest.read(one).hashes["bundle.json"])
    whole = shelf.read(key)
    shelf.put(key, whole[:-1])
    for words in (f"has {len(whole) - 1} bytes", "is missing"):
        code, _, err = run("promote", "stable", digest(one))
        assert (code, words in err, "bundle.json" in err) == (3, True, True)
        shelf.remove(key) if words != "is missing" else None
    assert actions(run) == [("promote", digest(two))]
    assert run("publish", one)[0] == 0
    assert run("promote", "stable", digest(one))[0] == 0


def test_what_comes_broken_never_becomes_a_folder(shelf, run, one, two, tmp_path):
    run("publish", one)
    run("publish", two)
    run("fetch", digest(one), tmp_path / "got")
    fact = manifest.read(two).files["evidence/verdict.json"]
    whole = shelf.read(object_key(fact.sha256))
    for broken in (whole[:-1], whole + b"x", whole.replace(b"t", b"f", 1)):
        shelf.put(object_key(fact.sha256), broken)
        for folder in ("got", "new"):
            assert run("fetch", digest(two), tmp_path / folder)[0] == 3
    shelf.remove(object_key(fact.sha256))
    code, _, err = run("fetch", digest(two), tmp_path / "new")
    assert (code, "missing. Publish the release again" in err) == (3, True)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} - {"store"} == {"got"}
    assert Bundle.load(tmp_path / "got").digest == digest(one)
    assert list(tmp_path.glob(".*.partial")) == []


def test_a_signature_goes_with_its_release(shelf, run, version, tmp_path):
    """The store carries what lies beside; tests of signing tell whether it is right."""
    signed, unsigned = tmp_path / "build" / "release", version(2, "static")
    shutil.copytree(version(1, "static").parent, signed.parent)
    beside = tmp_path / "build" / "release.signature"
    beside.mkdir()
    for text in ("first", "second"):  # signing again gives other bytes
        (beside / "model.sig").write_text(text)
        assert ", signed" in run("publish", signed)[2]
    assert ", unsigned" in run("publish", unsigned)[2]
    got = tmp_path / "got"
    assert run("fetch", digest(signed), got)[0] == 0
    assert (tmp_path / "got.signature" / "model.sig").read_text() == "second"
    shutil.rmtree(tmp_path / "got.signature")
    assert run("fetch", digest(signed), got)[0] == 0, "the release is there, its signature not"
    assert (tmp_path / "got.signature" / "model.sig").read_text() == "second"
    key = object_key(manifest.read(unsigned).hashes["bundle.json"])
    data = shelf.read(key)
    shelf.put(key, b"broken")
    assert run("fetch", digest(unsigned), got)[0] == 3
    assert (tmp_path / "got.signature" / "model.sig").read_text() == "second", "what stays keeps its signature"
    shelf.put(key, data)
    assert run("fetch", digest(unsigned), got)[0] == 0
    assert not (tmp_path / "got.signature").exists(), "it signed the other release"
    shelf.put(f"releases/{digest(signed)}/signature/a/b", b"x")
    assert run("fetch", digest(signed), got)[0] == 3
    assert Bundle.load(got).digest == digest(unsigned)


def test_fetch_replaces_releases_only(shelf, run, one, tmp_path):
    run("publish", one)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, err = run("fetch", digest(one), tmp_path / "mine")
    assert (code, "is no release" in err) == (2, True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    run("fetch", digest(one), tmp_path / "got")
    (tmp_path / "got" / "NOTICE").write_text("changed")
    assert run("fetch", digest(one), tmp_path / "got")[0] == 0
    assert Bundle.load(tmp_path / "got").digest == digest(one)


HOSTILE: dict[str, Any] = {
    "../outside": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},
    "/tmp/outside": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},
    "a/../../outside": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},
    "a//b": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},
    "key": {"sha256": "../../channels/stable.json", "size": 1},
    "size": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": -1},
    "nothing": {},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_reaches_nothing(shelf, run, tmp_path, name):
    """Its digest is right: somebody who may write the store made it."""
    body: dict[str, Any] = {"schema": 1, "stage": "bundle", "files": {name: HOSTILE[name]}}
    body["digest"] = hashlib.sha256(manifest.canonical(body)).hexdigest()
    shelf.put(release_key(body["digest"]), manifest.canonical(body))
    shelf.put(object_key(hashlib.sha256(b"x").hexdigest()), b"x")
    code, _, err = run("fetch", body["digest"], tmp_path / "deep" / "got")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "lies outside a release" in err or "is not the manifest of this digest" in err
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("address", ["release", "http://x/y", "s3://", "s3://UP", "file://"])
def test_bad_addresses_are_refused(run, address):
    code, _, err = run("history", "--store", address)
    assert (code, "expected s3://BUCKET[/PREFIX] or file://FOLDER" in err) == (2, True)


def test_a_folder_that_cannot_hold_a_store_is_refused(run, one, tmp_path):
    (tmp_path / "file").write_text("")
    assert run("publish", one, "--store", f"file://{tmp_path / 'file'}")[0] == 2


def test_what_a_killed_copy_left_is_swept_but_not_what_is_at_work(tmp_path, run, one):
    address = f"file://{tmp_path / 'store'}"
    uploads = tmp_path / "store" / "uploads"
    uploads.mkdir(parents=True)
    (uploads / "left").write_bytes(b"half")
    store = promote.open_store(address, None)
    source = tmp_path / "x"
    source.write_bytes(b"whole")
    # While a copy is under way another publisher sweeps.
    store.create("objects/sha256/x", source, lambda _: store.sweep())
    assert store.read("objects/sha256/x").data == b"whole"
    assert list(uploads.iterdir()) == []
    with pytest.raises(IntegrityError, match="missing"):
        list(store.stream("objects/sha256/y"))
