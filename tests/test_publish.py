"""A release is published only with the verdict that is about it, to S3 and to a folder alike."""

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from embed_foundry import manifest

from support.release_stores import forge_release, write_signature
from support.small_release import refit

FORGED: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "verdict": ("evidence/verdict.json", lambda json: json.update(baseline="x"), "verdict.json is"),
    "variant": (
        "variants/static/variant.json",
        lambda json: json.update(max_tokens=9),
        "variant static is|content is",
    ),
    "limits": ("bundle.json", lambda json: json["target"].update(required=0), "target is"),
    "order": ("bundle.json", lambda json: json.get("selection", json)["order"].clear(), "order|empty"),
    "checks": ("bundle.json", lambda json: json["variants"]["static"]["checks"].clear(), "checks of static is"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_verdict_about_other_bytes_is_refused(release_store, run_command, first_release, tmp_path, case):
    name, change, message = FORGED[case]
    forged = forge_release(first_release, tmp_path / "forged", name, change)
    manifest.verify(forged)
    code, out, err = run_command("publish", forged)
    assert (code, out) == (3, "")
    assert re.search(message, err)
    assert len(err.splitlines()) == 1
    assert release_store.store.list_keys("") == []


def test_the_verdict_of_another_build_is_refused(release_store, run_command, first_release, second_release, tmp_path):
    code, _, err = run_command("publish", first_release, "--build", second_release.parent)
    assert (code, "the gate judged" in err) == (3, True)
    shutil.copytree(first_release, tmp_path / "alone" / "release")
    code, _, err = run_command("publish", tmp_path / "alone" / "release")
    assert (code, f"{tmp_path / 'alone' / 'gate'}: missing" in err) == (2, True)
    assert release_store.store.list_keys("") == []


def test_a_release_that_the_gate_did_not_pass_is_refused(release_store, run_command, first_release, tmp_path):
    """All digests agree; only the verdict refuses it."""
    release = forge_release(
        first_release,
        tmp_path / "forged",
        "evidence/verdict.json",
        lambda json: json["release"].update(passes=False),
    )
    shutil.copyfile(release / "evidence/verdict.json", tmp_path / "forged" / "gate" / "verdict.json")
    refit(tmp_path / "forged" / "gate")
    gate = manifest.read(tmp_path / "forged" / "gate").digest
    refit(release, inputs=manifest.read(release).inputs | {"gate": gate})
    code, _, err = run_command("publish", release)
    assert (code, "the gate did not pass it" in err) == (4, True)
    assert release_store.store.list_keys("") == []


@pytest.mark.parametrize("damage", ["another release's", "cut"])
def test_a_signature_of_other_bytes_is_not_published(run_command, make_release, tmp_path, damage):
    """As a build leaves it that replaces a signed release."""
    release, other = tmp_path / "build" / "release", make_release(2, "static")
    shutil.copytree(make_release(1, "static").parent, release.parent)
    signature = write_signature(release)
    shutil.rmtree(release.parent / "release")
    if damage == "cut":
        shutil.copytree(make_release(1, "static"), release)
        (signature / "provenance.intoto.json").write_text("{")
    else:
        shutil.copytree(other.parent, release.parent, dirs_exist_ok=True)
    code, _, err = run_command("publish", release, "--store", f"file://{tmp_path / 'store'}")
    assert code == 3
    assert f"or remove {signature}" in err
    assert not (tmp_path / "store").exists()
