"""A release is published only with the verdict that is about it, S3 and a folder alike."""

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from embed_foundry import manifest

from support.release_stores import forge
from support.small_release import refit

FORGED: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "verdict": ("evidence/verdict.json", lambda it: it.update(baseline="x"), "verdict.json is"),
    "variant": ("variants/static/variant.json", lambda it: it.update(max_tokens=9), "variant static is|content is"),
    "limits": ("bundle.json", lambda it: it["target"].update(required=0), "target is"),
    "order": ("bundle.json", lambda it: it.get("selection", it)["order"].clear(), "order|empty"),
    "checks": ("bundle.json", lambda it: it["variants"]["static"]["checks"].clear(), "checks of static is"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_verdict_about_other_bytes_is_refused(shelf, run, one, tmp_path, case):
    name, change, words = FORGED[case]
    forged = forge(one, tmp_path / "forged", name, change)
    manifest.verify(forged)
    code, out, err = run("publish", forged)
    assert (code, out) == (3, "")
    assert re.search(words, err)
    assert len(err.splitlines()) == 1
    assert shelf.store.keys("") == []


def test_the_verdict_of_another_build_is_refused(shelf, run, one, two, tmp_path):
    code, _, err = run("publish", one, "--build", two.parent)
    assert (code, "the gate judged" in err) == (3, True)
    shutil.copytree(one, tmp_path / "alone" / "release")
    code, _, err = run("publish", tmp_path / "alone" / "release")
    assert (code, f"{tmp_path / 'alone' / 'gate'}: missing" in err) == (2, True)
    assert shelf.store.keys("") == []


def test_a_release_that_the_gate_did_not_pass_is_refused(shelf, run, one, tmp_path):
    """Everything agrees: only the verdict says no."""
    release = forge(one, tmp_path / "f", "evidence/verdict.json", lambda it: it["release"].update(passes=False))
    shutil.copyfile(release / "evidence/verdict.json", tmp_path / "f" / "gate" / "verdict.json")
    refit(tmp_path / "f" / "gate")
    gate = manifest.read(tmp_path / "f" / "gate").digest
    refit(release, inputs=manifest.read(release).inputs | {"gate": gate})
    code, _, err = run("publish", release)
    assert (code, "the gate did not pass it" in err) == (4, True)
    assert shelf.store.keys("") == []
