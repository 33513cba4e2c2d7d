"""publish: an output folder is absent or whole, whatever its block does; two never write it; errors say what to do."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import IntegrityError, RetryableError, manifest

from stages.common.contract import output
from stages.common.contract.output import stage_output

WRITER = Path(__file__).parent / "faults" / "writer.py"
PUBLICATION = {"stage": "quality", "parameters": {"seed": 1}, "inputs": {}}


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.fixture
def out(tmp_path) -> Path:
    """Return a published folder that holds one file, `old`."""
    with stage_output(tmp_path / "out", **PUBLICATION) as work:
        (work / "old").write_text("old")
    return tmp_path / "out"


def start(*args: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, WRITER, *map(str, args)], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=os.environ
    )


def test_publishes_whole_with_its_facts_and_nothing_else(out, tmp_path):
    new = tmp_path / "deep" / "new"
    with stage_output(new, stage="s", parameters={"a": [1]}, inputs={"base": out}, libraries=("numpy",)) as work:
        assert work.parent == new.parent, "a rename is atomic on one file system only"
        assert not new.exists()
        (work / "data").write_text("x")
    body = manifest.verify(new)
    assert body.stage == "s"
    assert body.parameters == {"a": [1]}
    assert body.inputs == {"base": manifest.read(out).digest}
    assert body.libraries == output.library_versions(["numpy"])
    assert listing(new.parent) == ["new"]


def test_replaces_the_whole_folder(out, tmp_path):
    with stage_output(out, **PUBLICATION) as work:
        (work / "new").write_text("new")
        assert (out / "old").exists(), "the previous output stays until the new one is whole"
    manifest.verify(out)
    assert listing(out) == ["manifest.json", "new"]
    assert listing(tmp_path) == ["out"]


ERRORS = {
    "an error": (RuntimeError("boom"), {}),
    "Ctrl-C": (KeyboardInterrupt(), {}),
    "exit": (SystemExit(1), {}),
    "a parameter that is no JSON": (ValueError(), {"limit": float("nan")}),
}


def _write_then(work: Path, error: BaseException) -> None:
    (work / "new").write_text("new")
    if not isinstance(error, ValueError):  # that one comes from the manifest
        raise error


@pytest.mark.parametrize("case", ERRORS)
def test_a_failing_block_leaves_the_previous_output_and_no_litter(out, tmp_path, case):
    before = (out / manifest.NAME).read_bytes()
    error, parameters = ERRORS[case]
    with pytest.raises(type(error)), stage_output(out, stage="quality", parameters=parameters, inputs={}) as work:
        _write_then(work, error)
    manifest.verify(out)
    assert (out / manifest.NAME).read_bytes() == before
    assert listing(tmp_path) == ["out"]


def test_a_changed_input_is_refused_before_the_work(out, tmp_path):
    (out / "old").write_text("odd")
    with (
        pytest.raises(IntegrityError, match="old: has sha256"),
        stage_output(tmp_path / "next", stage="s", parameters={}, inputs={"it": out}),
    ):
        pytest.fail("the block ran on a changed input")
    assert listing(tmp_path) == ["out"]


def test_too_small_a_disk_is_refused_before_the_work(out):
    with (
        pytest.raises(RetryableError, match=r"needs 1000000000000 MB of free disk, has \d+ MB") as caught,
        stage_output(out, **PUBLICATION, needs_bytes=10**18),
    ):
        pytest.fail("the block ran without the space it asked for")
    assert caught.value.code == 75
    manifest.verify(out)


def test_second_writer_is_refused_by_name_and_the_first_goes_on(tmp_path):
    first = start(tmp_path / "out", 10, "wait")
    assert first.stdout.readline() == "half\n"
    second = start(tmp_path / "out", 20)
    said = second.communicate(timeout=60)[1]
    assert second.returncode == 75
    assert f"process {first.pid} is writing it" in said
    assert len(said.splitlines()) == 1
    assert first.communicate("go\n", timeout=60)[1] == ""
    assert first.returncode == 0
    assert manifest.verify(tmp_path / "out").parameters == {"size": 10}


def test_a_lock_held_by_nobody_known_is_still_a_lock(out):
    with out.with_name(".out.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RetryableError, match="process unknown is writing it"), stage_output(out, **PUBLICATION):
            pass


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_stage_in_one_line(out, tmp_path, sent):
    writer = start(out, 10, "wait")
    assert writer.stdout.readline() == "half\n"
    writer.send_signal(sent)
    said = writer.communicate(timeout=60)[1]
    assert writer.returncode == 130
    assert said == "interrupted; nothing was published\n"
    manifest.verify(out)
    assert listing(out) == ["manifest.json", "old"]
    assert listing(tmp_path) == ["out"]


@pytest.mark.parametrize("mask", ["000", "077"])
def test_modes_do_not_depend_on_who_builds(tmp_path, mask):
    command = f'umask {mask}; exec "$@"'
    subprocess.run(["sh", "-c", command, "sh", sys.executable, WRITER, tmp_path / "out", "10"], check=True)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "out", *(tmp_path / "out").iterdir()]}
    assert modes == {"out": 0o755, "data": 0o644, "manifest.json": 0o644}


@pytest.fixture
def namespace(tmp_path):
    """Return a function that runs a shell script in a mount namespace of its own: $1 is a folder, $2 the writer."""
    probe = "mount -t tmpfs -o size=1m tmpfs " + str(tmp_path)
    if subprocess.run(["unshare", "-rm", "sh", "-c", probe], capture_output=True, check=False).returncode:
        pytest.skip("this host lets nobody mount a small file system")

    def run(script: str) -> subprocess.CompletedProcess[str]:
        writer = f"{sys.executable} {WRITER}"
        command = ["unshare", "-rm", "sh", "-euc", script, "sh", tmp_path, writer]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_a_full_disk_keeps_the_previous_output(namespace):
    done = namespace(
        "mount -t tmpfs -o size=256k tmpfs $1; $2 $1/out 1000; sha256sum $1/out/* > $1/before;"
        "code=0; $2 $1/out 1000000 || code=$?; sha256sum --check --quiet $1/before; ls -A $1; exit $code"
    )
    assert done.returncode == 75, done.stderr
    assert "the disk is full; nothing was published" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.split() == [".out.lock", "before", "out"]


def test_a_read_only_output_is_named(namespace):
    done = namespace("mount -t tmpfs tmpfs $1; $2 $1/out 10; mount -o remount,ro $1; $2 $1/out 20")
    assert done.returncode == 2, done.stderr
    assert "out" in done.stderr
    assert "cannot be written (Read-only file system). Make it writable" in done.stderr
    assert len(done.stderr.splitlines()) == 1
