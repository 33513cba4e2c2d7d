"""A release for browsers, as the build assembles it, and pages that open it."""

import shutil
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from stages.commands import compose
from stages.common import config
from support import small_release

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("fp32", "onnx_int8", "onnx_w8", "onnx_w4", "static")


@pytest.fixture(scope="session")
def browser_release(base, converted, params, shared_folder) -> Path:
    """Return the release; nothing may change it. Its packages come from npm's registry, or from .cache/npm."""
    if not shutil.which("npm"):
        pytest.skip("no npm here; it comes with Node.js")
    made = shared_folder / "browser"
    with FileLock(made.with_name("browser.waiting")):
        if not (made / "release").exists():
            target = config.parse(yaml.safe_load(compose.compose(["target=browser"], ROOT / "conf")), "conf/").target
            made.mkdir()
            small_release.start(made, base, converted, params.model, target, ROOT, NAMES).release()
    return made / "release"
