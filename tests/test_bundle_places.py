"""A release in the hub's cache, and where nothing can be written; its check takes no memory by size."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import Bundle, InputError, archive, manifest, open_bundle

from support.small_release import refusal


def lay_out_cache(release: Path, folder: Path) -> Path:
    """Lay a release out as the hub's client does: blobs by hash, and a snapshot of links to them."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / ("0" * 40)
    blobs.mkdir(parents=True)
    for name in (*manifest.files_of(release), manifest.NAME):
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = blobs / manifest.sha256(release / name)
        shutil.copy(release / name, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_opens_in_the_hubs_cache(released, tmp_path, console, probes):
    snapshot = lay_out_cache(released.folder, tmp_path / "models--me--release")
    done = console("verify", snapshot)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("onnx_fp32", "static"):
        expected = open_bundle(released.folder, name).encode(probes[:3])
        assert open_bundle(snapshot, name).encode(probes[:3]).tobytes() == expected.tobytes()
    for above in (tmp_path / "models--me--release", snapshot.parent):
        with pytest.raises(InputError, match=f"is no release, but holds {snapshot}. Open that folder"):
            Bundle.load(above)
    packed = [archive.pack(Bundle.load(folder), tmp_path / folder.name) for folder in (released.folder, snapshot)]
    assert manifest.sha256(packed[0]) == manifest.sha256(packed[1])
    blob = (snapshot / "LICENSE").resolve()
    blob.write_text("other terms")
    assert f"{snapshot / 'LICENSE'}: has 11 bytes" in refusal(snapshot)
    blob.unlink()
    assert f"{snapshot / 'LICENSE'}: is a link to nothing" in refusal(snapshot)


WRITES_NOTHING = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from embed_foundry import Bundle, open_bundle
bundle = Bundle.load(__import__("pathlib").Path(sys.argv[1]))
for name in bundle.order:
    assert open_bundle(sys.argv[1], name).encode(["text"]).shape[0] == 1
"""


def test_opens_where_nothing_can_be_written_and_there_is_no_home(released):
    program = [sys.executable, "-B", "-c", WRITES_NOTHING, released.folder]
    done = subprocess.run(
        program, cwd="/", env={"TMPDIR": "/nowhere"}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


MEMORY = """
import resource, sys
from pathlib import Path
from embed_foundry import manifest

folder = Path(sys.argv[1])
manifest.verify(folder / "small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
manifest.verify(folder / "large")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_flat_whatever_a_files_size(tmp_path):
    for name, size in (("small", 1), ("large", 400_000_000)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "weights").open("wb") as file:
            file.truncate(size)
        manifest.write(tmp_path / name, {})
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) < 8 * 1024, "KiB"
