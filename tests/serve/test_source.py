"""What `serve` is given: a folder, a tar; and what it does with things that are neither."""

import pytest
from embed_foundry import Bundle, archive, manifest

from support.served import serve
from support.served_releases import copy_release, corrupt, read_readiness, wait_for, wait_for_release
from support.traffic import ask


@pytest.fixture
def tar(first_release, tmp_path):
    return archive.pack(Bundle.load(first_release), tmp_path / "release.tar")


def list_shelf(state) -> dict[str, int]:
    """Return the releases on a service's shelf, and when each was put there."""
    return {folder.name: folder.stat().st_mtime_ns for folder in state.glob("*/releases/*")}


def test_a_tar_is_unpacked_once(first_release, tar, tmp_path):
    state = tmp_path / "state"
    with serve(tar, tmp_path, "--state", str(state)) as service:
        assert ask(service.url).release == manifest.read(first_release).digest
    shelf = list_shelf(state)
    assert list(shelf) == [manifest.read(first_release).digest]
    with serve(tar, tmp_path, "--state", str(state)) as service:
        assert ask(service.url).status == 200
    assert list_shelf(state) == shelf


def test_another_tar_in_its_place_is_taken_and_a_damaged_one_is_not(first_release, second_release, tar, tmp_path):
    options = ("--state", str(tmp_path / "state"), "--poll-s", "0.2")
    with serve(tar, tmp_path, *options) as service:
        wait_for_release(service.url, first_release)
        (tmp_path / "new.tar").write_bytes(tar.read_bytes()[:5000])
        (tmp_path / "new.tar").replace(tar)
        wait_for(lambda: "cannot be" in " ".join(read_readiness(service.url)[1]["notes"]))
        assert read_readiness(service.url)[0] == 200
        archive.pack(Bundle.load(second_release), tmp_path / "new.tar")
        (tmp_path / "new.tar").replace(tar)
        wait_for_release(service.url, second_release)
        wait_for(lambda: read_readiness(service.url)[1]["notes"] == [])


def test_a_damaged_copy_on_the_shelf_is_unpacked_again(first_release, tar, tmp_path):
    state = tmp_path / "state"
    with serve(tar, tmp_path, "--state", str(state)):
        pass
    (unpacked,) = state.glob("*/releases/*")
    corrupt(unpacked)
    with serve(tar, tmp_path, "--state", str(state)) as service:
        assert ask(service.url).status == 200
    assert Bundle.load(unpacked).digest == manifest.read(first_release).digest


def test_what_cannot_be_served_ends_the_start(first_release, console, tmp_path):
    state = ("--state", str(tmp_path / "state"))
    done = console("serve", tmp_path / "nothing")
    assert (done.returncode, "no such folder" in done.stderr) == (2, True)
    (tmp_path / "text").write_text("no tar")
    done = console("serve", tmp_path / "text", *state)
    assert (done.returncode, "cannot be read as a tar of a release" in done.stderr) == (2, True)
    done = console("serve", corrupt(copy_release(first_release, tmp_path / "corrupt")))
    assert (done.returncode, "sha256" in done.stderr) == (3, True)
    tar = archive.pack(Bundle.load(first_release), tmp_path / "good.tar")
    done = console("serve", tar, "--state", tmp_path / "text")
    assert (done.returncode, "Name a folder that can by --state" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
