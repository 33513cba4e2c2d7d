"""Channels of a store, S3 and a folder alike: one promotion wins, rollbacks walk back, broken pointers are told."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from embed_foundry import IntegrityError, RetryableError, manifest

from stages.commands import promote
from stages.commands.promote.channel import Channel
from stages.commands.promote.store import DIGEST, channel_key
from support.release_stores import actions, digest

RACERS = 16


def test_rollback_walks_back_and_never_to_and_fro(shelf, run, version):
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


def test_one_of_sixteen_promotions_wins(shelf, run, one, two):
    """All have read the channel before any writes it: the hardest case."""
    run("publish", one)
    run("publish", two)
    run("promote", "stable", digest(one))
    ready = threading.Barrier(RACERS, timeout=60)

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(shelf.store, name)

        def swap(self, *args: Any) -> bool:
            ready.wait()
            return shelf.store.swap(*args)

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
    assert str(told.index("won")) == promote.history(shelf.store, "stable").moves[-1].reason


def test_a_promotion_may_name_what_it_expects(shelf, run, one, two):
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


def test_a_broken_pointer_is_told_and_left_alone(shelf, run, one):
    run("publish", one)
    shelf.put(channel_key("stable"), b"{")
    for command in (["history", "stable"], ["promote", "stable", digest(one)], ["rollback", "stable"]):
        code, _, err = run(*command)
        assert (code, "is no channel pointer" in err, len(err.splitlines())) == (3, True, 1)
    assert shelf.read(channel_key("stable")) == b"{"


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
def test_bad_channel_names_are_refused(shelf, run, name):
    code, _, err = run("history" if not DIGEST.fullmatch(name) else "rollback", name)
    assert (code, "expected up to 63 of" in err) == (2, True)


def test_unknown_channels_name_the_known_ones(shelf, run, one):
    run("publish", one)
    run("promote", "canary", digest(one))
    code, _, err = run("rollback", "stable")
    assert (code, "no channel stable; there are: canary." in err) == (2, True)
