"""What the operating system refuses ends every stage and command in one line with its path: exit 75 or 2."""

import errno
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import IntegrityError
from embed_foundry.errors import FoundryError
from embed_foundry.system_errors import LASTING, RETRYABLE, retryable_error, system_error
from faults import library_writers

PROGRAM = Path(library_writers.__file__)
ROOT = PROGRAM.parents[2]


def test_a_full_disk_ends_every_library_with_75_and_the_path(run_on_small_disk, tmp_path):
    result = run_on_small_disk("size=1m", f"exec {sys.executable} {PROGRAM} $1")
    assert result.returncode == 0, result.stderr
    ends = [json.loads(line) for line in result.stdout.splitlines()]
    assert [name for name, *_ in ends] == list(library_writers.WRITERS)
    for name, code, said, left in ends:
        last = said.splitlines()[-1]
        assert (name, code, "Traceback" in said) == (name, 75, False), said
        assert last.startswith(f"error: {tmp_path / 'disk'}"), last
        assert "full" in last, last
        assert left == [".out.lock"], name


@pytest.mark.parametrize("library", ["tree", "safetensors", "numpy", "replaced"])
def test_a_disk_without_inodes_says_so(run_on_small_disk, library):
    """One inode is the root's, one the lock's, one the work folder's."""
    result = run_on_small_disk("size=20m,nr_inodes=3", f"exec {sys.executable} {PROGRAM} $1 {library}")
    ((_, code, said, left),) = map(json.loads, result.stdout.splitlines())
    assert (code, left) == (75, [".out.lock"]), said
    assert "has no inodes left; nothing was written. Remove some files" in said


def test_a_disk_without_inodes_at_all_says_so_before_the_work(run_on_small_disk):
    script = f"touch $1/.out.lock; exec {sys.executable} {PROGRAM} $1 zip"
    result = run_on_small_disk("size=20m,nr_inodes=2", script)
    ((_, code, said, _),) = map(json.loads, result.stdout.splitlines())
    assert (code, len(said.splitlines())) == (75, 1), said
    assert "has no inodes left" in said


def test_a_read_only_disk_is_2_with_the_path(run_on_small_disk, tmp_path):
    script = f"touch $1/.out.lock; mount -o remount,ro $1; exec {sys.executable} {PROGRAM} $1 zip torch"
    result = run_on_small_disk("size=20m", script)
    for line in result.stdout.splitlines():
        _, code, said, _ = json.loads(line)
        assert code == 2, said
        assert said.startswith(f"error: {tmp_path / 'disk'}/.out.lock: cannot be written (Read-only file system).")


def test_compose_on_a_full_disk_keeps_params_whole(run_on_small_disk):
    """The file was cut before: DVC then built what was left of it."""
    script = (
        "cp -r conf $1/conf; echo 'before: 1' > $1/params.yaml; cd $1; "
        "dd if=/dev/zero of=$1/filler bs=1k 2> $1/dd || true; code=0; "
        f"TMPDIR=$SOURCE {Path(sys.executable).with_name('embed-foundry')} compose target=railway_cpu || code=$?; "
        "cat params.yaml; find . -name '*.partial'; exit $code"
    )
    result = run_on_small_disk("size=400k", f"mkdir -p $SOURCE; {script}")
    assert result.returncode == 75, result.stderr
    assert ".yaml: the disk is full; nothing was written." in result.stderr
    assert result.stdout.splitlines()[0] == "before: 1"
    assert ".partial" not in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize(
    "code",
    [
        "from stages.common.contract.process import run_stage; run_stage(lambda: print('done'))",
        "import sys; from embed_foundry.exits import exit_code; sys.exit(exit_code(lambda: print('done')))",
    ],
    ids=["a stage", "a command"],
)
def test_a_full_disk_behind_standard_output_is_75(code):
    """What is printed is written when the process ends, where Python reports it in its own way."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert process.returncode == 75, process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert process.stderr.startswith("error: ")


NUMBERS = [*RETRYABLE, *LASTING, errno.EXDEV, errno.ENOTSUP, errno.EINVAL]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: errno.errorcode[number])
def test_every_number_has_an_exit_code_and_names_the_path(number, tmp_path):
    error = system_error(OSError(number, os.strerror(number), str(tmp_path / "file")))
    assert isinstance(error, FoundryError)
    assert error.code == (75 if number in RETRYABLE else 2)
    assert str(tmp_path) in str(error) or number == errno.ENOMEM
    assert system_error(OSError(number, os.strerror(number)), tmp_path).code == error.code


# What libraries raise -> the exit code.
IN_OTHER_WORDS = {
    "memory, by numpy": (MemoryError("Unable to allocate 4 GiB"), 75),
    "memory, by torch": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 75),
    "memory, by C++": (RuntimeError("std::bad_alloc"), 75),
    "a full disk, by Rust": (Exception("IoError: No space left on device (os error 28)"), 75),
    "too many files, by Rust": (Exception("Too many open files (os error 24)"), 75),
    "a read-only file, by Rust": (Exception("Permission denied (os error 13)"), 2),
    "no folder, by Arrow": (OSError("Cannot open for writing: [errno 2] No such file or directory"), 2),
    "C++'s streams": (RuntimeError("basic_ios::clear: iostream error"), 75),
    "words alone": (OSError("it does not appear to have a file named config.json"), 2),
    "a connection": (ConnectionResetError("reset"), 75),
    "a bug": (KeyError("name"), None),
    "a number in the text": (ValueError("expected 28 values"), None),
}


@pytest.mark.parametrize("case", IN_OTHER_WORDS)
def test_the_same_in_the_words_of_libraries(case, tmp_path):
    error, code = IN_OTHER_WORDS[case]
    refused = system_error(error, tmp_path)
    assert (refused.code if refused else None) == code
    assert (retryable_error(error, tmp_path) is not None) == (code == 75)


def test_an_error_from_a_refusal_is_that_refusal_and_a_judged_one_is_left_alone(tmp_path):
    wrapped = RuntimeError("the loader failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert system_error(wrapped, tmp_path).code == 75
    judged = IntegrityError("a.bin: not what it was")
    judged.__cause__ = OSError(errno.EACCES, "Permission denied")
    assert system_error(judged, tmp_path) is None


def test_sqlite_says_what_it_met(tmp_path):
    (tmp_path / "rows.db").mkdir()
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(tmp_path / "rows.db")
    assert system_error(caught.value, tmp_path / "rows.db").code == 2
