"""contract/output: an output folder is absent or complete; one process writes it; errors name the next step."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import IntegrityError, RetryableError, manifest
from embed_foundry.output import folder as folder_module

from stages.common.contract import output
from stages.common.contract.output import stage_output

WRITER = Path(__file__).parent / "faults" / "writer.py"
OUTPUT = {"stage": "quality", "parameters": {"seed": 1}, "inputs": {}}


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.fixture
def out(tmp_path) -> Path:
    """Return an output folder that holds one file, `old`."""
    with stage_output(tmp_path / "out", **OUTPUT) as work:
        (work / "old").write_text("old")
    return tmp_path / "out"


def start_writer(*args: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, WRITER, *map(str, args)], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=os.environ
    )


def test_an_output_is_complete_with_its_manifest_and_nothing_else(out, tmp_path):
    new = tmp_path / "deep" / "new"
    with stage_output(new, stage="s", parameters={"a": [1]}, inputs={"base": out}, libraries=("numpy",)) as work:
        assert work.parent == new.parent, "a rename is atomic on one file system only"
        assert not new.exists()
        (work / "data").write_text("x")
    written = manifest.verify(new)
    assert written.stage == "s"
    assert written.parameters == {"a": [1]}
    assert written.inputs == {"base": manifest.read(out).digest}
    assert written.libraries == output.library_versions(["numpy"])
    assert list_names(new.parent) == ["new"]


def test_replaces_the_whole_folder(out, tmp_path):
    with stage_output(out, **OUTPUT) as work:
        (work / "new").write_text("new")
        assert (out / "old").exists(), "the previous output stays until the new one is complete"
    manifest.verify(out)
    assert list_names(out) == ["manifest.json", "new"]
    assert list_names(tmp_path) == ["out"]


ERRORS = {
    "an error": (RuntimeError("boom"), {}),
    "Ctrl-C": (KeyboardInterrupt(), {}),
    "exit": (SystemExit(1), {}),
    "a parameter that is not JSON": (ValueError(), {"limit": float("nan")}),
}


def _write_then(work: Path, error: BaseException) -> None:
    (work / "new").write_text("new")
    if not isinstance(error, ValueError):  # that one is raised by the manifest
        raise error


@pytest.mark.parametrize("case", ERRORS)
def test_a_failing_block_leaves_the_previous_output_and_no_leftovers(out, tmp_path, case):
    before = (out / manifest.NAME).read_bytes()
    error, parameters = ERRORS[case]
    with pytest.raises(type(error)), stage_output(out, stage="quality", parameters=parameters, inputs={}) as work:
        _write_then(work, error)
    manifest.verify(out)
    assert (out / manifest.NAME).read_bytes() == before
    assert list_names(tmp_path) == ["out"]


def test_ctrl_c_after_the_replacement_leaves_the_new_output_alone(out, tmp_path, monkeypatch):
    sync = folder_module.sync_folder

    def interrupt(folder):
        if folder == tmp_path:  # the last call of a replacement
            raise KeyboardInterrupt
        sync(folder)

    monkeypatch.setattr(folder_module, "sync_folder", interrupt)
    with pytest.raises(KeyboardInterrupt), stage_output(out, **OUTPUT) as work:
        (work / "new").write_text("new")
    manifest.verify(out)
    assert list_names(out) == ["manifest.json", "new"]
    assert list_names(tmp_path) == ["out"]


def test_a_changed_input_is_refused_before_the_work(out, tmp_path):
    (out / "old").write_text("odd")
    with (
        pytest.raises(IntegrityError, match="old: has sha256"),
        stage_output(tmp_path / "next", stage="s", parameters={}, inputs={"base": out}),
    ):
        pytest.fail("the block ran on a changed input")
    assert list_names(tmp_path) == ["out"]


def test_too_small_a_disk_is_refused_before_the_work(out):
    with (
        pytest.raises(RetryableError, match=r"needs 1000000000000 MB of free disk, has \d+ MB") as caught,
        stage_output(out, **OUTPUT, needs_bytes=10**18),
    ):
        pytest.fail("the block ran without the required space")
    assert caught.value.code == 75
    manifest.verify(out)


def test_second_writer_is_refused_by_name_and_the_first_goes_on(tmp_path):
    first = start_writer(tmp_path / "out", 10, "wait")
    assert first.stdout.readline() == "half\n"
    second = start_writer(tmp_path / "out", 20)
    message = second.communicate(timeout=60)[1]
    assert second.returncode == 75
    assert f"process {first.pid} is writing it" in message
    assert len(message.splitlines()) == 1
    assert first.communicate("go\n", timeout=60)[1] == ""
    assert first.returncode == 0
    assert manifest.verify(tmp_path / "out").parameters == {"size": 10}


def test_a_lock_with_an_unknown_holder_is_still_a_lock(out):
    with out.with_name(".out.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RetryableError, match="process unknown is writing it"), stage_output(out, **OUTPUT):
            pass


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_stage_in_one_line(out, tmp_path, sent):
    writer = start_writer(out, 10, "wait")
    assert writer.stdout.readline() == "half\n"
    writer.send_signal(sent)
    message = writer.communicate(timeout=60)[1]
    assert writer.returncode == 130
    assert message == "interrupted; no output is half-written\n"
    manifest.verify(out)
    assert list_names(out) == ["manifest.json", "old"]
    assert list_names(tmp_path) == ["out"]


@pytest.mark.parametrize("mask", ["000", "077"])
def test_modes_do_not_depend_on_the_umask(tmp_path, mask):
    command = f'umask {mask}; exec "$@"'
    subprocess.run(["sh", "-c", command, "sh", sys.executable, WRITER, tmp_path / "out", "10"], check=True)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "out", *(tmp_path / "out").iterdir()]}
    assert modes == {"out": 0o755, "data": 0o644, "manifest.json": 0o644}


@pytest.fixture
def run_in_namespace(tmp_path):
    """Return a function that runs a shell script in its own mount namespace: $1 is a folder, $2 the writer."""
    probe = "mount -t tmpfs -o size=1m tmpfs " + str(tmp_path)
    if subprocess.run(["unshare", "-rm", "sh", "-c", probe], capture_output=True, check=False).returncode:
        pytest.skip("this host does not allow mounting a small file system")

    def run(script: str) -> subprocess.CompletedProcess[str]:
        writer = f"{sys.executable} {WRITER}"
        command = ["unshare", "-rm", "sh", "-euc", script, "sh", tmp_path, writer]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_a_full_disk_keeps_the_previous_output(run_in_namespace):
    result = run_in_namespace(
        "mount -t tmpfs -o size=256k tmpfs $1; $2 $1/out 1000; sha256sum $1/out/* > $1/before;"
        "code=0; $2 $1/out 1000000 || code=$?; sha256sum --check --quiet $1/before; ls -A $1; exit $code"
    )
    assert result.returncode == 75, result.stderr
    assert "the disk is full; nothing was written" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout.split() == [".out.lock", "before", "out"]


def test_a_read_only_output_is_named(run_in_namespace):
    result = run_in_namespace("mount -t tmpfs tmpfs $1; $2 $1/out 10; mount -o remount,ro $1; $2 $1/out 20")
    assert result.returncode == 2, result.stderr
    assert "out" in result.stderr
    assert "cannot be written (Read-only file system). Make it writable" in result.stderr
    assert len(result.stderr.splitlines()) == 1
