"""Releases of earlier versions open with this one: golden/ has one of each schema, as `embed-foundry pack` wrote it."""

import json
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import Bundle, IntegrityError, archive, manifest
from safetensors.numpy import load_file

GOLDEN = Path(__file__).with_name("golden")
# Archive -> its digest, as it was printed when it was packed.
DIGESTS = {"bundle-2-of-2026-11-26.tar": "5d187cc32f0f"}


def test_every_golden_release_is_tried():
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(DIGESTS)


@pytest.mark.parametrize("name", DIGESTS)
def test_a_release_of_an_earlier_version_gives_the_vectors_that_it_gave(name, tmp_path, console):
    """variant.json lacks all that was added since: truncation_side, vocabulary, pools_prompt."""
    bundle = archive.unpack(GOLDEN / name, tmp_path)
    assert bundle.digest.startswith(DIGESTS[name])
    done = console("verify", bundle.folder)
    assert (done.returncode, done.stderr) == (0, "")
    probes = json.loads((bundle.folder / "probes" / "probes.json").read_text(encoding="utf-8"))
    released = load_file(bundle.folder / "probes" / "golden.safetensors")["static"]
    encoder = bundle.open()
    vectors = [encoder.encode([probe["text"]], prompt=probe["prompt"])[0] for probe in probes]
    np.testing.assert_allclose(np.stack(vectors), released, atol=1e-6)


@pytest.mark.parametrize("schema", [0, 1, 3, "2", None])
def test_a_bundle_of_another_schema_names_the_version_that_it_needs(released, tmp_path, schema):
    raw = json.loads((released.folder / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps(raw | {"schema": schema}))
    manifest.write(tmp_path, {"stage": "bundle"})
    with pytest.raises(IntegrityError, match=rf"has schema {schema!r}, this runtime reads 2\. Install the wheel in"):
        Bundle.load(tmp_path)
