"""Stores in folders of every file system: without hard links, renames that fail if the name exists, or locks; full."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CONSOLE
from embed_foundry import Bundle
from embed_foundry.output.folder import sync_folder
from embed_foundry.store import open_store, promote

from stages.commands.publish import publish
from support.refused_calls import NO_LINKS
from support.release_stores import read_digest


@pytest.fixture
def run_refused(root) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a command for which the kernel refuses system calls."""

    def run(errors: dict[str, int], *command: str | Path) -> subprocess.CompletedProcess[str]:
        refusals = [f"{name}={error}" for name, error in errors.items()]
        environment = os.environ | {"PYTHONPATH": f"{root / 'tests'}"}
        return subprocess.run(
            [sys.executable, "-m", "support.refused_calls", *refusals, "--", *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def count_messages(stderr: str) -> int:
    """Count the lines that are not the progress bar's."""
    return len([line for line in stderr.splitlines() if not line.startswith("publish: ")])


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EPERM], ids=["not supported", "not permitted"])
def test_a_release_goes_through_a_file_system_without_hard_links(run_refused, first_release, tmp_path, error):
    errors = dict.fromkeys(NO_LINKS, error)
    assert run_refused(errors, "/bin/ln", __file__, tmp_path / "x").returncode == 1
    store = ("--store", f"file://{tmp_path / 'store'}")
    for command in (
        ["publish", first_release],
        ["promote", "stable", read_digest(first_release)],
        ["fetch", "stable", tmp_path / "fetched"],
    ):
        result = run_refused(errors, CONSOLE, *command, *store)
        assert result.returncode == 0, result.stderr
    assert Bundle.load(tmp_path / "fetched").digest == read_digest(first_release)
    assert list((tmp_path / "store" / "uploads").iterdir()) == []


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS], ids=["nfs nolock", "lustre"])
def test_a_file_system_without_locks_is_refused_in_one_line_but_read(run_refused, first_release, tmp_path, error):
    address = f"file://{tmp_path / 'store'}"
    result = run_refused({"flock": error}, CONSOLE, "publish", first_release, "--store", address)
    assert (result.returncode, result.stdout, count_messages(result.stderr)) == (5, "", 1)
    assert "this file system has no file locks (flock" in result.stderr
    store = open_store(address, None)
    promote(store, "stable", publish(store, first_release, first_release.parent).digest)
    result = run_refused({"flock": error}, CONSOLE, "history", "--store", address)
    assert (result.returncode, result.stdout.split()) == (0, ["stable", read_digest(first_release)])


def run_mounted(tmp_path: Path, options: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose `mounted` folder, which may have files, is a small file system of its own."""
    mounted = tmp_path / "mounted"
    mounted.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, mounted, *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("size=64k", 75, "Free disk space"),
        ("nr_inodes=5", 75, "Free disk space"),
        ("ro", 5, "Make the folder writable"),
    ],
    ids=["full", "no inodes", "read-only"],
)
def test_a_full_or_read_only_folder(first_release, tmp_path, options, code, message):
    store = f"file://{tmp_path / 'mounted'}/store"
    result = run_mounted(tmp_path, options, CONSOLE, "publish", first_release, "--store", store)
    assert (result.returncode, result.stdout, message in result.stderr) == (code, "", True), result.stderr
    assert count_messages(result.stderr) == 1


@pytest.mark.parametrize("folder", ["x" * 256, "file/deeper", "loop/x"])
def test_a_path_that_cannot_be_is_refused(run_command, first_release, tmp_path, folder):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    code, _, err = run_command("publish", first_release, "--store", f"file://{tmp_path / folder}")
    assert (code, "--store must name a folder" in err) == (2, True)


def test_what_systems_leave_in_folders_is_no_channel_and_no_signature(
    run_command, first_release, tmp_path, monkeypatch
):
    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"file://{tmp_path / 'store'}")
    digest = read_digest(first_release)
    run_command("publish", first_release)
    run_command("promote", "stable", digest)
    for name in ("channels/.DS_Store", "channels/._stable.json", "channels/.nfs0001", "channels/Thumbs.db"):
        (tmp_path / "store" / name).write_bytes(b"\0")
    (tmp_path / "store" / "releases" / digest / "signature").mkdir()
    (tmp_path / "store" / "releases" / digest / "signature" / ".DS_Store").write_bytes(b"\0")
    assert run_command("history")[:2] == (0, f"{'stable':<20} {digest}")
    assert run_command("fetch", "stable", tmp_path / "fetched")[0] == 0
    assert not (tmp_path / "fetched.signature").exists()


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(root, run_command, first_release, tmp_path):
    address = f"file://{tmp_path / 'store'}"
    run_command("publish", first_release, "--store", address)
    run_command("promote", "stable", read_digest(first_release), "--store", address)
    script = (  # refused after the imports, which list folders too
        "from embed_foundry.store import list_channels, open_store; from support.refused_calls import refuse; "
        f"store = open_store({address!r}, None); refuse({{'getdents64': {errno.EACCES}}}); "
        "print(list_channels(store))"
    )
    command = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": f"{root / 'tests'}"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("embed_foundry.errors.RemoteError"), result.stderr


def test_a_file_system_that_cannot_sync_folders_is_used_all_the_same():
    with pytest.raises(OSError, match="Invalid argument"):
        os.fsync(os.open("/proc", os.O_RDONLY))
    sync_folder(Path("/proc"))
