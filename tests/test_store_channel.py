"""Channels of a store, S3 and a folder alike: one promotion wins, rollbacks go back, broken pointers are reported."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from embed_foundry import IntegrityError, RetryableError, manifest
from embed_foundry.store import load_channel, promote
from embed_foundry.store.channel import Channel
from embed_foundry.store.file_store import FileStore
from embed_foundry.store.store import DIGEST, channel_key

from stages.commands.publish import publish
from support.release_stores import read_digest, read_moves

RACERS = 16


def test_rollback_goes_back_and_never_to_and_fro(release_store, run_command, make_release):
    a, b, c, d = (read_digest(make_release(number, "static")) for number in (1, 2, 3, 4))
    for number in (1, 2, 3, 4):
        run_command("publish", make_release(number, "static"))
    for release in (a, b, c):
        run_command("promote", "stable", release)
    assert run_command("rollback", "stable")[1].endswith(b)
    assert run_command("rollback", "stable")[1].endswith(a)
    code, _, err = run_command("rollback", "stable")
    assert code == 2
    assert f"has no release before {a}" in err
    run_command("promote", "stable", d)
    run_command("promote", "stable", c)
    assert run_command("rollback", "stable", "--to", a)[1] == f"stable: moved from {c} to {a}"
    code, _, err = run_command("rollback", "stable", "--to", b)
    assert code == 2, "b was left by a rollback"
    assert len(read_moves(run_command)) == 8


def test_one_of_sixteen_promotions_wins(release_store, run_command, first_release, second_release):
    """All have read the channel before any of them writes it: the hardest case."""
    run_command("publish", first_release)
    run_command("publish", second_release)
    run_command("promote", "stable", read_digest(first_release))
    ready = threading.Barrier(RACERS, timeout=60)

    class WaitingStore:
        def __getattr__(self, name: str) -> Any:
            return getattr(release_store.store, name)

        def compare_and_swap(self, *args: Any) -> bool:
            ready.wait()
            return release_store.store.compare_and_swap(*args)

    def try_to_promote(number: int) -> str:
        try:
            promote(WaitingStore(), "stable", read_digest(second_release), reason=str(number))
        except RetryableError as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(RACERS) as pool:
        outcomes = list(pool.map(try_to_promote, range(RACERS)))
    assert outcomes.count("won") == 1
    a, b = read_digest(first_release), read_digest(second_release)
    assert all(f"channel stable is at {b} (move 2" in outcome for outcome in outcomes if outcome != "won")
    assert read_moves(run_command) == [("promote", a), ("promote", b)]
    assert str(outcomes.index("won")) == load_channel(release_store.store, "stable").moves[-1].reason


def test_one_of_sixteen_processes_wins(release_store, root, make_release):
    """Promotions against rollbacks, repeated; for the folder, on a file system without hard links."""
    releases = [make_release(number, "static") for number in (1, 2, 3)]
    rounds = 5 if isinstance(release_store.store, FileStore) else 1
    for release in releases:
        publish(release_store.store, release, release.parent)
    result = subprocess.run(
        [sys.executable, "-m", "support.store_racers", str(rounds), *map(read_digest, releases)],
        env=os.environ | {"PYTHONPATH": f"{root / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stdout.splitlines()) == (0, [f"1 {RACERS - 1}"] * rounds), result.stderr
    for index in range(rounds):
        assert len(load_channel(release_store.store, f"race{index}").moves) == 3
    if isinstance(release_store.store, FileStore):
        assert list((release_store.store.folder / "uploads").iterdir()) == []


def test_a_promotion_may_name_what_it_expects(release_store, run_command, first_release, second_release):
    run_command("publish", first_release)
    run_command("publish", second_release)
    a, b = read_digest(first_release), read_digest(second_release)
    code, _, err = run_command("promote", "stable", a, "--expect", b)
    assert (code, f"channel stable does not exist, expected {b}" in err) == (75, True)
    assert run_command("promote", "stable", a, "--expect", "none")[0] == 0
    code, _, err = run_command("promote", "stable", b, "--expect", "none")
    assert (code, f"channel stable is at {a} (move 1, promote" in err) == (75, True)
    assert run_command("promote", "stable", b, "--expect", a)[0] == 0
    code, _, err = run_command("promote", "stable", b, "--expect", a)
    assert (code, f"is at {b} (move 2" in err) == (75, True), "somebody else did the same: reported, not hidden"


def test_a_broken_pointer_is_reported_and_left_alone(release_store, run_command, first_release):
    run_command("publish", first_release)
    release_store.put(channel_key("stable"), b"{")
    for command in (["history", "stable"], ["promote", "stable", read_digest(first_release)], ["rollback", "stable"]):
        code, _, err = run_command(*command)
        assert (code, "is not a channel pointer" in err, len(err.splitlines())) == (3, True, 1)
    assert release_store.read(channel_key("stable")) == b"{"


def test_a_pointer_that_contradicts_itself_is_refused():
    first = {"number": 1, "action": "promote", "release": "a" * 64, "at": "now", "id": "1", "reason": None}
    second = first | {"number": 2, "release": "b" * 64}
    intact = {"schema_version": 1, "name": "stable", "release": "b" * 64, "moves": [first, second]}
    assert Channel.parse(manifest.canonical(intact), "x").replay_moves() == ["a" * 64, "b" * 64]
    broken: list[Any] = [
        [],
        intact | {"release": "a" * 64},
        intact | {"release": "b" * 12},
        intact | {"moves": [second]},
        intact | {"moves": []},
        intact | {"more": 1},
        intact | {"schema_version": 2},
        intact | {"moves": [first, second | {"action": "rollback"}]},
        intact | {"moves": [first, second | {"action": "delete"}]},
    ]
    for content in broken:
        with pytest.raises(IntegrityError, match="x: is not a channel pointer"):
            Channel.parse(manifest.canonical(content), "x")


@pytest.mark.parametrize("name", ["Stable", "a/b", "..", "", "x" * 64, "a b", "f" * 64])
def test_bad_channel_names_are_refused(release_store, run_command, name):
    code, _, err = run_command("history" if not DIGEST.fullmatch(name) else "rollback", name)
    assert (code, "expected up to 63 characters of" in err) == (2, True)


def test_unknown_channels_name_the_known_ones(release_store, run_command, first_release):
    run_command("publish", first_release)
    run_command("promote", "canary", read_digest(first_release))
    code, _, err = run_command("rollback", "stable")
    assert (code, "no channel stable; its channels: canary." in err) == (2, True)
