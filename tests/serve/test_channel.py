"""A channel of a store as the source: followed in traffic; what happens when the store, or a release in it, fails."""

import shutil
import socket
import time

import pytest
from embed_foundry import manifest
from embed_foundry.store.store import object_key

from support.release_stores import read_digest
from support.seaweedfs import BUCKET
from support.served import serve
from support.served_releases import fail_self_test, read_readiness, wait_for, wait_for_release
from support.traffic import Traffic, ask

FOLLOW = ("--channel", "stable", "--poll-s", "0.2")


@pytest.fixture
def options(tmp_path):
    """Return the options of a service that follows the channel."""
    return (*FOLLOW, "--state", str(tmp_path / "state"))


def promote(run_command, release):
    assert run_command("publish", release)[0] == 0
    assert run_command("promote", "stable", read_digest(release))[0] == 0


def list_shelf(tmp_path):
    """Return the releases that a service keeps on its host."""
    return {folder.name for folder in tmp_path.glob("state/*/releases/[!.]*")}


def test_moves_of_a_channel_are_followed_in_traffic(
    release_store, run_command, first_release, second_release, options, tmp_path
):
    promote(run_command, first_release)
    with serve(None, tmp_path, *options) as service, Traffic(service.url) as traffic:
        wait_for_release(service.url, first_release)
        promote(run_command, second_release)
        wait_for_release(service.url, second_release)
        assert run_command("rollback", "stable")[0] == 0
        wait_for_release(service.url, first_release)
    assert traffic.faults == []
    assert {answer.refusal for answer in traffic.answers} == {""}
    assert {answer.release for answer in traffic.answers} == {read_digest(first_release), read_digest(second_release)}


def test_a_release_that_is_no_longer_served_leaves_the_disk(
    monkeypatch, run_command, first_release, second_release, make_release, options, tmp_path
):
    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"file://{tmp_path / 'store'}")
    releases = [first_release, second_release, make_release(3, "static")]
    promote(run_command, first_release)
    with serve(None, tmp_path, *options) as service:
        for release in releases:
            promote(run_command, release)
            wait_for_release(service.url, release)
        assert list_shelf(tmp_path) <= {read_digest(release) for release in releases[1:]}
        assert read_digest(releases[2]) in list_shelf(tmp_path)


def test_a_corrupt_release_in_the_store_never_answers(
    release_store, run_command, first_release, second_release, options, tmp_path
):
    promote(run_command, first_release)
    with serve(None, tmp_path, *options) as service:
        wait_for_release(service.url, first_release)
        run_command("publish", second_release)
        key = object_key(manifest.read(second_release).hashes["probes/probes.json"])
        sound = release_store.read(key)
        release_store.put(key, sound[:-1] + b" ")
        assert run_command("promote", "stable", read_digest(second_release))[0] == 0
        wait_for(lambda: "came back as" in " ".join(read_readiness(service.url)[1]["notes"]))
        assert ask(service.url).release == read_digest(first_release)
        assert list_shelf(tmp_path) == {read_digest(first_release)}
        release_store.put(key, sound)
        wait_for_release(service.url, second_release)
        wait_for(lambda: read_readiness(service.url)[1]["notes"] == [])


def test_a_release_whose_variant_is_broken_never_answers(
    monkeypatch, run_command, first_release, second_release, options, tmp_path
):
    """It is whole and was promoted, but fails its self-test on this host."""
    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"file://{tmp_path / 'store'}")
    promote(run_command, first_release)
    with serve(None, tmp_path, *options) as service:
        wait_for_release(service.url, first_release)
        shutil.copytree(second_release.parent, tmp_path / "broken")
        broken = fail_self_test(tmp_path / "broken" / second_release.name, "static")
        push(run_command, broken, tmp_path / "store")
        wait_for(lambda: "self-test" in " ".join(read_readiness(service.url)[1]["notes"]))
        answer = ask(service.url)
        assert (answer.status, answer.release) == (200, read_digest(first_release))


def push(run_command, release, store):
    """Put a release into a folder's store without the gate's consent, and promote it."""
    digest = read_digest(release)
    for name, entry in manifest.read(release).files.items():
        shutil.copyfile(release / name, store / object_key(entry.sha256))
    (store / "releases" / digest).mkdir()
    shutil.copyfile(release / manifest.NAME, store / "releases" / digest / manifest.NAME)
    assert run_command("promote", "stable", digest)[0] == 0


def test_without_its_store_a_start_serves_what_it_fetched_before(
    monkeypatch, run_command, first_release, second_release, options, tmp_path
):
    store, away = tmp_path / "store", tmp_path / "away"
    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"file://{store}")
    promote(run_command, first_release)
    with serve(None, tmp_path, *options) as service:
        wait_for_release(service.url, first_release)
        store.rename(away)
        wait_for(lambda: "no channel stable" in " ".join(read_readiness(service.url)[1]["notes"]))
        assert ask(service.url).status == 200
    with serve(None, tmp_path, *options) as service:
        wait_for_release(service.url, first_release)
        wait_for(lambda: read_readiness(service.url)[1]["notes"])
        assert read_readiness(service.url)[0] == 200
        away.rename(store)
        promote(run_command, second_release)
        wait_for_release(service.url, second_release)


def test_a_silent_store_does_not_delay_a_start(
    s3_server, bucket_prefix, set_credentials, monkeypatch, run_command, first_release, options, tmp_path
):
    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"s3://{BUCKET}/{bucket_prefix}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    promote(run_command, first_release)
    with serve(None, tmp_path, *options) as service:
        wait_for_release(service.url, first_release)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with serve(None, tmp_path, *options, "--endpoint", endpoint) as service:
            assert ask(service.url).release == read_digest(first_release)
            assert time.monotonic() - began < 18, "a request to a silent server takes 20 s and more"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--channel", "stable", "--store", "file://{}/none"), 2, "no channel stable"),
        (("--channel", "stable", "--store", "s3://bucket", "--endpoint", "http://127.0.0.1:9"), 75, "unavailable"),
        (("--channel", "stable", "--store", "http://bucket"), 2, "expected s3://"),
        (("--channel", "Stable!", "--store", "file://{}/none"), 2, "expected up to 63 characters"),
        (("release", "--channel", "stable"), 2, "give one of them"),
        ((), 2, "give one of them"),
    ],
)
def test_a_start_that_has_nothing_to_serve_says_why(console, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    arguments = [argument.format(tmp_path) for argument in arguments]
    done = console("serve", *arguments, "--state", str(tmp_path / "state"))
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unsigned_release_is_not_served_where_a_signer_is_named(
    monkeypatch, run_command, first_release, console, options, tmp_path
):
    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"file://{tmp_path / 'store'}")
    promote(run_command, first_release)
    assert run_command("keygen", tmp_path / "key")[0] == 0
    done = console("serve", *options, "--key", tmp_path / "key.pub")
    assert (done.returncode, "has no signature" in done.stderr) == (3, True), done.stderr
    assert list_shelf(tmp_path) == set()
