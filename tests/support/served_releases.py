"""Small releases to serve in place of each other: some good, some of another space, some bad."""

import functools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest
from embed_foundry import manifest
from safetensors.numpy import load_file, save_file

from support import altered_copies, small_release
from support.traffic import ask

GOLDEN = "probes/golden.safetensors"


def replace_folder(folder: Path, release: Path) -> None:
    """Put a copy of a release in a folder's place, as a build does."""
    work = folder.with_name(f".{folder.name}.new")
    shutil.copytree(release, work)
    if folder.exists():
        folder.rename(folder.with_name(f".{folder.name}.old"))
    work.rename(folder)
    shutil.rmtree(folder.with_name(f".{folder.name}.old"), ignore_errors=True)


def copy_release(release: Path, folder: Path) -> Path:
    """Return a writable copy of a release."""
    shutil.copytree(release, folder)
    return folder


def fail_self_test(release: Path, variant: str) -> Path:
    """Change a variant's recorded vectors, so that the release is whole but the variant fails its self-test."""
    golden = load_file(release / GOLDEN)
    golden[variant] = np.ascontiguousarray(golden[variant][:, ::-1])
    save_file(golden, release / GOLDEN)
    small_release.seal(release)
    return release


def corrupt(release: Path) -> Path:
    """Change a byte of a release's first weights, and nothing else."""
    path = max(release.glob("variants/*/*"), key=lambda file: file.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return release


def read_readiness(url: str) -> tuple[int, dict]:
    """Return what /readyz says."""
    response = httpx2.get(f"{url}/readyz", timeout=10)
    return response.status_code, response.json()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def wait_for_release(url: str, release: Path) -> None:
    """Wait until a service answers from a release."""
    digest = manifest.read(release).digest
    wait_for(lambda: ask(url).release == digest)


@pytest.fixture(scope="session")
def other_space_release(released, base, converted, tmp_path_factory) -> Path:
    """Return a release of a static variant whose vectors are of another space."""
    folder = tmp_path_factory.mktemp("other_space")
    altered = altered_copies.broken(
        converted("static"), folder / "altered" / "static", lambda table: np.ascontiguousarray(table[:, ::-1])
    )
    record = json.loads((altered / "variant.json").read_text())
    (altered / "variant.json").write_bytes(manifest.canonical(record | {"space_id": "0123456789abcdef"}))
    made = manifest.read(converted("static"))
    small_release.refit(altered, inputs=made.inputs, parameters=made.parameters, libraries=made.libraries)

    @functools.cache
    def choose(name: str) -> Path:
        return altered if name == "static" else converted(name)

    limits = {"default": released.target.limits["default"]}  # a table of floats is larger than the target allows
    target = released.target.model_copy(update={"candidates": ["static"], "limits": limits})
    build = small_release.start(
        folder, base, choose, released.model, target, Path(__file__).parents[2], ("fp32", "static")
    )
    return build.release()
