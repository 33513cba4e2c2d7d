"""Releases in a store, S3 and a folder alike: published whole or not at all, channels that one promotion wins."""

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from embed_foundry import Bundle, IntegrityError, RetryableError, cli, manifest
from weed import ADMIN, BUCKET, secret

from stages import promote
from stages.promote.channel import Channel
from stages.promote.store import DIGEST, Store, channel_key, object_key, release_key

RACERS = 16


@dataclass
class Place:
    """A store: its address, and a way around its conditions, to break it."""

    address: str
    store: Store
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]

    def read(self, key: str) -> bytes:
        return b"".join(self.store.stream(key))

    def named(self) -> list[str]:
        return [key for key in self.store.keys("") if key.startswith(("objects/", "releases/", "channels/"))]


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path, monkeypatch) -> Place:
    """Return an empty store of each kind, named by the environment as a user would."""
    if request.param == "file":
        address, root = f"file://{tmp_path / 'store'}", tmp_path / "store"

        def put(key: str, data: bytes) -> None:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)

        def remove(key: str) -> None:
            (root / key).unlink()
    else:
        weed, prefix = request.getfixturevalue("weed"), request.getfixturevalue("prefix")
        address, client = f"s3://{BUCKET}/{prefix}", weed.client()
        monkeypatch.setenv("AWS_ENDPOINT_URL", weed.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret(ADMIN))

        def put(key: str, data: bytes) -> None:
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=data)

        def remove(key: str) -> None:
            client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{key}")

    monkeypatch.setenv("EMBED_FOUNDRY_STORE", address)
    return Place(address, promote.open_store(None, None), put, remove)


@pytest.fixture
def run(capsys) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command in this process: exit code, stdout, stderr."""

    def command(*args: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(arg) for arg in args])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out.strip(), said.err

    return command


@pytest.fixture
def one(version) -> Path:
    return version(1, "static")


@pytest.fixture
def two(version) -> Path:
    return version(2, "static")


def digest(release: Path) -> str:
    return str(manifest.read(release)["digest"])


def actions(run) -> list[tuple[str, str]]:
    """Return what `history stable` tells, the oldest first: action and release."""
    code, out, _ = run("history", "stable")
    assert code == 0
    lines = out.splitlines()[::-1]
    words = [line.lstrip("* ").split() for line in lines]
    assert [int(it[0]) for it in words] == list(range(1, len(lines) + 1))
    return [(it[2], it[3]) for it in words]


def test_the_way_of_a_release(place, run, one, two, tmp_path):
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


def test_objects_are_named_by_their_content(place, run, one):
    run("publish", one)
    objects = [key for key in place.named() if key.startswith("objects/")]
    assert len(objects) == len({fact["sha256"] for fact in manifest.read(one)["files"].values()})
    assert all(hashlib.sha256(place.read(key)).hexdigest() == key.rpartition("/")[2] for key in objects)
    assert place.read(release_key(digest(one))) == (one / manifest.NAME).read_bytes()


def test_publishing_again_changes_nothing(place, run, one):
    run("publish", one)
    before = {key: place.read(key) for key in place.named()}
    code, out, err = run("publish", one)
    assert (code, out) == (0, digest(one))
    assert "uploaded 0 of" in err
    assert {key: place.read(key) for key in place.named()} == before


def test_a_dry_run_tells_and_changes_nothing(place, run, one, two, tmp_path):
    code, out, err = run("publish", one, "--dry-run")
    assert (code, out) == (0, digest(one))
    assert "would upload variants/static/table.safetensors" in err
    assert place.store.keys("") == []
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


def test_rollback_walks_back_and_never_to_and_fro(place, run, version):
    a, b, c, d = (digest(version(number, "static")) for number in (1, 2, 3, 4))
    for number in (1, 2, 3, 4):
        run("publish", version(number, "static"))
    for release in (a, b, c):
        run("promote", "stable", release)
    assert run("rollback", "stable")[1].endswith(b)
    assert run("rollback", "stable")[1].endswith(a)
    code, _, err = run("rollback", "stable")
    assert code == 2
    assert f"no release before {a} stands" in err
    run("promote", "stable", d)
    run("promote", "stable", c)
    assert run("rollback", "stable", "--to", a)[1] == f"stable: moved from {c} to {a}"
    code, _, err = run("rollback", "stable", "--to", b)
    assert code == 2, "b was left by a rollback"
    assert len(actions(run)) == 8


def forge(release: Path, folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a build, change a JSON file of the release, and make all its manifests agree with it."""
    shutil.copytree(release.parent, folder)
    path = folder / "release" / name
    content = json.loads(path.read_text())
    change(content)
    path.write_bytes(manifest.canonical(content))
    sign(path.parent if name.startswith("variants/") else folder / "release")
    return sign(folder / "release")


def sign(folder: Path) -> Path:
    """Write a folder's manifest anew, with all that it said but the files."""
    facts = {key: value for key, value in manifest.read(folder).items() if key not in ("files", "digest", "schema")}
    manifest.write(folder, facts)
    return folder


FORGED: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "verdict": ("evidence/verdict.json", lambda it: it.update(baseline="x"), "verdict.json is"),
    "variant": ("variants/static/variant.json", lambda it: it.update(max_tokens=9), "variant static is|content is"),
    "limits": ("bundle.json", lambda it: it["target"].update(required=0), "target is"),
    "order": ("bundle.json", lambda it: it.get("selection", it)["order"].clear(), "order|empty"),
    "checks": ("bundle.json", lambda it: it["variants"]["static"]["checks"].clear(), "checks of static is"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_verdict_about_other_bytes_is_refused(place, run, one, tmp_path, case):
    name, change, words = FORGED[case]
    forged = forge(one, tmp_path / "forged", name, change)
    manifest.verify(forged)
    code, out, err = run("publish", forged)
    assert (code, out) == (3, "")
    assert re.search(words, err)
    assert len(err.splitlines()) == 1
    assert place.store.keys("") == []


def test_the_verdict_of_another_build_is_refused(place, run, one, two, tmp_path):
    code, _, err = run("publish", one, "--build", two.parent)
    assert (code, "the gate judged" in err) == (3, True)
    shutil.copytree(one, tmp_path / "alone" / "release")
    code, _, err = run("publish", tmp_path / "alone" / "release")
    assert (code, f"{tmp_path / 'alone' / 'gate'}: missing" in err) == (2, True)
    assert place.store.keys("") == []


def test_a_release_that_the_gate_did_not_pass_is_refused(place, run, one, tmp_path):
    """Everything agrees: only the verdict says no."""
    release = forge(one, tmp_path / "f", "evidence/verdict.json", lambda it: it["release"].update(passes=False))
    shutil.copyfile(release / "evidence/verdict.json", tmp_path / "f" / "gate" / "verdict.json")
    sign(tmp_path / "f" / "gate")
    facts = manifest.read(release)
    facts["inputs"]["gate"] = manifest.read(tmp_path / "f" / "gate")["digest"]
    manifest.write(release, {key: value for key, value in facts.items() if key not in ("files", "digest", "schema")})
    code, _, err = run("publish", release)
    assert (code, "the gate did not pass it" in err) == (4, True)
    assert place.store.keys("") == []


def test_wrong_bytes_under_an_objects_name_stop_the_publication(place, run, one):
    fact = manifest.read(one)["files"]["variants/static/table.safetensors"]
    place.put(object_key(fact["sha256"]), bytes(fact["size"]))
    code, out, err = run("publish", one)
    assert (code, out) == (3, "")
    assert object_key(fact["sha256"]) in err
    assert "came back as" in err
    assert [key for key in place.named() if key.startswith("releases/")] == []
    place.remove(object_key(fact["sha256"]))
    assert run("publish", one)[0] == 0


def test_another_manifest_under_the_same_digest_is_never_overwritten(place, run, one):
    place.put(release_key(digest(one)), b"{}")
    code, _, err = run("publish", one)
    assert (code, "releases are immutable" in err) == (5, True)
    assert place.read(release_key(digest(one))) == b"{}"
    assert run("promote", "stable", digest(one))[0] == 3


def test_only_what_is_published_whole_is_promoted(place, run, one, two):
    for release in (digest(one), f"{one}/", "canary"):
        assert run("promote", "stable", release)[0] == 2
    run("publish", one)
    run("publish", two)
    run("promote", "stable", digest(two))
    key = object_key(manifest.read(one)["files"]["bundle.json"]["sha256"])
    whole = place.read(key)
    place.put(key, whole[:-1])
    for words in (f"has {len(whole) - 1} bytes", "is missing"):
        code, _, err = run("promote", "stable", digest(one))
        assert (code, words in err, "bundle.json" in err) == (3, True, True)
        place.remove(key) if words != "is missing" else None
    assert actions(run) == [("promote", digest(two))]
    assert run("publish", one)[0] == 0
    assert run("promote", "stable", digest(one))[0] == 0


def test_one_of_sixteen_promotions_wins(place, run, one, two):
    """All have read the channel before any writes it: the hardest case."""
    run("publish", one)
    run("publish", two)
    run("promote", "stable", digest(one))
    ready = threading.Barrier(RACERS, timeout=60)

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.store, name)

        def swap(self, *args: Any) -> bool:
            ready.wait()
            return place.store.swap(*args)

    def racer(number: int) -> str:
        try:
            promote.promote(Slow(), "stable", digest(two), reason=str(number))
        except RetryableError as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(RACERS) as pool:
        told = list(pool.map(racer, range(RACERS)))
    assert told.count("won") == 1
    assert all(f"channel stable is at {digest(two)} (move 2" in words for words in told if words != "won")
    assert actions(run) == [("promote", digest(one)), ("promote", digest(two))]
    assert str(told.index("won")) == promote.history(place.store, "stable").moves[-1].reason


def test_a_promotion_may_name_what_it_expects(place, run, one, two):
    run("publish", one)
    run("publish", two)
    code, _, err = run("promote", "stable", digest(one), "--expect", digest(two))
    assert (code, "channel stable does not exist, not at" in err) == (75, True)
    assert run("promote", "stable", digest(one), "--expect", "none")[0] == 0
    code, _, err = run("promote", "stable", digest(two), "--expect", "none")
    assert (code, f"channel stable is at {digest(one)} (move 1, promote" in err) == (75, True)
    assert run("promote", "stable", digest(two), "--expect", digest(one))[0] == 0
    code, _, err = run("promote", "stable", digest(two), "--expect", digest(one))
    assert (code, f"is at {digest(two)} (move 2" in err) == (75, True), "somebody else did the same: told, not hidden"


def test_what_comes_broken_never_becomes_a_folder(place, run, one, two, tmp_path):
    run("publish", one)
    run("publish", two)
    run("fetch", digest(one), tmp_path / "got")
    fact = manifest.read(two)["files"]["evidence/verdict.json"]
    whole = place.read(object_key(fact["sha256"]))
    for broken in (whole[:-1], whole + b"x", whole.replace(b"t", b"f", 1)):
        place.put(object_key(fact["sha256"]), broken)
        for folder in ("got", "new"):
            assert run("fetch", digest(two), tmp_path / folder)[0] == 3
    place.remove(object_key(fact["sha256"]))
    code, _, err = run("fetch", digest(two), tmp_path / "new")
    assert (code, "missing. Publish the release again" in err) == (3, True)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} - {"store"} == {"got"}
    assert Bundle.load(tmp_path / "got").digest == digest(one)
    assert list(tmp_path.glob(".*.partial")) == []


def test_a_signature_goes_with_its_release(place, run, version, tmp_path):
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
    key = object_key(manifest.read(unsigned)["files"]["bundle.json"]["sha256"])
    data = place.read(key)
    place.put(key, b"broken")
    assert run("fetch", digest(unsigned), got)[0] == 3
    assert (tmp_path / "got.signature" / "model.sig").read_text() == "second", "what stays keeps its signature"
    place.put(key, data)
    assert run("fetch", digest(unsigned), got)[0] == 0
    assert not (tmp_path / "got.signature").exists(), "it signed the other release"
    place.put(f"releases/{digest(signed)}/signature/a/b", b"x")
    assert run("fetch", digest(signed), got)[0] == 3
    assert Bundle.load(got).digest == digest(unsigned)


def test_fetch_replaces_releases_only(place, run, one, tmp_path):
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
def test_a_hostile_manifest_reaches_nothing(place, run, tmp_path, name):
    """Its digest is right: somebody who may write the store made it."""
    body: dict[str, Any] = {"schema": 1, "stage": "bundle", "files": {name: HOSTILE[name]}}
    body["digest"] = hashlib.sha256(manifest.canonical(body)).hexdigest()
    place.put(release_key(body["digest"]), manifest.canonical(body))
    place.put(object_key(hashlib.sha256(b"x").hexdigest()), b"x")
    code, _, err = run("fetch", body["digest"], tmp_path / "deep" / "got")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "lies outside a release" in err or "is not the manifest of this digest" in err
    assert not (tmp_path / "deep").exists()


def test_a_broken_pointer_is_told_and_left_alone(place, run, one):
    run("publish", one)
    place.put(channel_key("stable"), b"{")
    for command in (["history", "stable"], ["promote", "stable", digest(one)], ["rollback", "stable"]):
        code, _, err = run(*command)
        assert (code, "is no channel pointer" in err, len(err.splitlines())) == (3, True, 1)
    assert place.read(channel_key("stable")) == b"{"


def test_a_pointer_that_contradicts_itself_is_none():
    first = {"number": 1, "action": "promote", "release": "a" * 64, "at": "now", "id": "1", "reason": None}
    second = first | {"number": 2, "release": "b" * 64}
    good = {"schema_version": 1, "name": "stable", "release": "b" * 64, "moves": [first, second]}
    assert Channel.parse(manifest.canonical(good), "x").standing() == ["a" * 64, "b" * 64]
    broken: list[Any] = [
        [],
        good | {"release": "a" * 64},
        good | {"release": "b" * 12},
        good | {"moves": [second]},
        good | {"moves": []},
        good | {"more": 1},
        good | {"schema_version": 2},
        good | {"moves": [first, second | {"action": "rollback"}]},
        good | {"moves": [first, second | {"action": "delete"}]},
    ]
    for content in broken:
        with pytest.raises(IntegrityError, match="x: is no channel pointer"):
            Channel.parse(manifest.canonical(content), "x")


@pytest.mark.parametrize("name", ["Stable", "a/b", "..", "", "x" * 64, "a b", "f" * 64])
def test_bad_channel_names_are_refused(place, run, name):
    code, _, err = run("history" if not DIGEST.fullmatch(name) else "rollback", name)
    assert (code, "expected up to 63 of" in err) == (2, True)


def test_unknown_channels_name_the_known_ones(place, run, one):
    run("publish", one)
    run("promote", "canary", digest(one))
    code, _, err = run("rollback", "stable")
    assert (code, "no channel stable; there are: canary." in err) == (2, True)


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
