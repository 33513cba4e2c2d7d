"""A small file system of a test's own, in a mount namespace; the test is skipped where the host allows none."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_on_small_disk(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a shell script beside an own tmpfs, mounted at $1 with some options.

    $SOURCE is a folder on another disk.
    """
    disk, source = tmp_path / "disk", tmp_path / "source"
    disk.mkdir()
    source.mkdir()
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this host does not allow mounting a small file system")

    def run(options: str, script: str) -> subprocess.CompletedProcess[str]:
        text = f"mount -t tmpfs -o {options} tmpfs $1; {script}"
        environment = os.environ | {"SOURCE": str(source), "PYTHONPATH": str(ROOT)}
        command = ["unshare", "-rm", "sh", "-euc", text, "sh", str(disk)]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run
