"""The last good release stays, and opens throughout, while the next one is built, refused, or killed."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from embed_foundry import GateError, IntegrityError, RetryableError, manifest, open_bundle, replaced
from embed_foundry.output.folder import atomic_folder
from embed_foundry.replaced import read_whole

from stages.common.config import Target
from support import small_release
from support.release_reader import read_meanwhile

DVC = Path(sys.executable).with_name("dvc")


def demand(target: Target, **changes: object) -> Target:
    """Return a target of the static variant alone; other memory gives another release."""
    resources = target.resources.model_copy(update={"memory_mb": changes.pop("memory_mb", 4096)})
    return target.model_copy(update={"candidates": ["static"], "resources": resources, **changes})


def refuse_all(target: Target) -> Target:
    """Return a target that no variant can meet."""
    limits = {name: limit.model_copy(update={"size_mb_max": 0.001}) for name, limit in target.limits.items()}
    return target.model_copy(update={"limits": limits})


@pytest.fixture
def build(released, tmp_path) -> small_release.Build:
    """Return a build with its release, all of which a test may change."""
    build = small_release.copy(released, tmp_path, demand(released.target))
    build.judge()
    build.release()
    return build


def test_opens_throughout_while_it_is_replaced_and_while_gates_fail(build, tmp_path):
    digests = [manifest.read(build.folder).digest]
    with read_meanwhile(build.folder, tmp_path / "stop") as readings:
        for memory_mb in (1024, 2048):
            refused = dataclasses.replace(build, target=refuse_all(build.target))
            refused.judge()
            with pytest.raises(
                GateError, match=f"{build.folder} still holds the previous release, digest {digests[-1]}"
            ):
                refused.release()
            assert manifest.verify(build.folder).digest == digests[-1]
            build = dataclasses.replace(build, target=demand(build.target, memory_mb=memory_mb))
            build.judge()
            build.release()
            digests.append(manifest.read(build.folder).digest)
    assert readings.faults == []
    assert len(set(digests)) == 3
    assert set(readings.opened) <= set(digests)
    assert sum(readings.opened.values()) > 3


def test_opens_throughout_while_it_is_replaced_over_and_over(make_release, tmp_path):
    releases = [make_release(number, "static") for number in (1, 2)]
    out = tmp_path / "release"
    shutil.copytree(releases[0], out)
    with read_meanwhile(out, tmp_path / "stop") as readings:
        for number in range(20):
            time.sleep(0.2)
            with atomic_folder(out) as work:
                shutil.copytree(releases[number % 2], work, dirs_exist_ok=True)
    assert readings.faults == []
    assert set(readings.opened) <= {manifest.read(release).digest for release in releases}
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


def test_what_was_read_of_two_releases_is_read_again(make_release, tmp_path):
    """Between any two files of a release it may become another one; in place here, as DVC's checkout replaces it."""
    first, second = (make_release(number, "static") for number in (1, 2))
    folder = shutil.copytree(first, tmp_path / "release")
    attempts = []

    def read() -> str:
        attempts.append(manifest.read(folder).digest)
        if len(attempts) == 1:
            shutil.rmtree(folder)
            shutil.copytree(second, folder)
        if len(attempts) == 2:
            (folder / "README.md").unlink()
            shutil.copy(second / "README.md", folder)
        return manifest.verify(folder).digest

    assert read_whole(folder, read) == manifest.read(second).digest
    assert attempts == [manifest.read(release).digest for release in (first, second, second)]


def test_a_release_that_never_rests_ends_as_retryable_and_a_broken_one_at_once(make_release, tmp_path, monkeypatch):
    folder = shutil.copytree(make_release(1, "static"), tmp_path / "release")
    monkeypatch.setattr(replaced, "PAUSE_S", 0)
    with pytest.raises(RetryableError, match="changes again and again"):
        read_whole(folder, lambda: os.utime(folder / "README.md"))
    (folder / "README.md").write_text("other")
    calls = []
    with pytest.raises(IntegrityError, match="README"):
        read_whole(folder, lambda: calls.append(1) or manifest.verify(folder))
    assert len(calls) == 1


def test_what_serves_goes_on_when_its_folder_is_replaced_by_a_broken_one_or_removed(released, tmp_path):
    folder = shutil.copytree(released.folder, tmp_path / "release")
    encoders = [open_bundle(folder, name) for name in released_names(folder)]
    before = [encoder.encode(["some text"]).tobytes() for encoder in encoders]
    with atomic_folder(folder) as work:
        shutil.copytree(released.folder, work, dirs_exist_ok=True)
        (work / "variants" / "static" / "table.safetensors").write_bytes(b"broken")
    with pytest.raises(IntegrityError, match="table"):
        open_bundle(folder)
    assert [encoder.encode(["some text"]).tobytes() for encoder in encoders] == before
    shutil.rmtree(folder)
    assert [encoder.encode(["some text"]).tobytes() for encoder in encoders] == before


def released_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "variants").iterdir())


def run_dvc(folder: Path, root: Path, *args: str) -> tuple[int, str]:
    done = subprocess.run(
        [DVC, *args],
        cwd=folder,
        env={**os.environ, "PATH": f"{DVC.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def pipeline(build, base, root, params, tmp_path) -> Path:
    """Return a DVC repository with the bundle stage of dvc.yaml, its inputs, and no release yet."""
    shutil.rmtree(build.folder)
    (tmp_path / "models").mkdir()
    shutil.copytree(base, tmp_path / "models" / "base", copy_function=os.link)
    shutil.copytree(root / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "pyproject.toml", "requirements.lock", ".dvcignore"):
        shutil.copy(root / name, tmp_path)
    stage = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["bundle"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"bundle": stage}}))
    choose(tmp_path, params, build.target)
    assert run_dvc(tmp_path, root, "init", "--no-scm", "--quiet")[0] == 0
    return tmp_path


def choose(folder: Path, params, target: Target) -> None:
    """Write a params.yaml with another target."""
    changed = params.model_copy(update={"target": target})
    (folder / "params.yaml").write_text(yaml.safe_dump(changed.model_dump()))


@pytest.mark.slow
def test_dvc_keeps_the_last_good_release_when_the_gate_refuses_the_next(
    build, pipeline, root, params, run_command, tmp_path
):
    code, output = run_dvc(pipeline, root, "repro", "--quiet")
    assert code == 0, output
    first = manifest.verify(build.folder).digest
    assert "previous release" not in output
    with read_meanwhile(build.folder, tmp_path / "stop") as readings:
        refused = dataclasses.replace(build, target=refuse_all(build.target))
        refused.judge()
        choose(pipeline, params, refused.target)
        code, output = run_dvc(pipeline, root, "repro")
        assert code != 0
        assert f"release still holds the previous release, digest {first}; it is not of this build." in output
        assert "exited with 4" in output
        assert manifest.verify(build.folder).digest == first
        # Nobody takes it for the new one: DVC knows that the stage did not run, and publish asks the gate.
        assert "bundle" in run_dvc(pipeline, root, "status")[1]
        code, _, err = run_command("publish", build.folder, "--store", f"file://{tmp_path / 'store'}")
        assert (code, "the gate judged" in err) == (3, True), err
        passed = dataclasses.replace(build, target=demand(build.target, memory_mb=1024))
        passed.judge()
        choose(pipeline, params, passed.target)
        code, output = run_dvc(pipeline, root, "repro", "--quiet")
        assert code == 0, output
    second = manifest.verify(build.folder).digest
    assert second != first
    assert readings.faults == []
    assert set(readings.opened) <= {first, second}
    assert open_bundle(build.folder).variant.name == "static"
