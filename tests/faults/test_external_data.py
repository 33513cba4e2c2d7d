"""Weights beside an ONNX graph: one that names a file outside its folder, or no whole one, is not opened."""

import numpy as np
import pytest
from embed_foundry import IntegrityError
from embed_foundry.encoders.encoder import open_variant

from support import tiny_graph
from support.tiny_graph import GRAPH, WEIGHTS


@pytest.fixture
def variant(tmp_path):
    """Return a variant's folder; beside it stands a whole copy of its weights."""
    folder = tiny_graph.write_variant(tmp_path / "variant")
    (tmp_path / "outside").write_bytes((folder / WEIGHTS).read_bytes())
    return folder


# What the graph says of its weights.
PLACES = {
    "parent": {"location": "../outside"},
    "through a folder": {"location": "inner/../../outside"},
    "absolute": {"location": "{folder}/../outside"},
    "link": {"location": "link"},
    "system file": {"location": "/dev/zero"},
    "missing": {"location": "missing"},
    "none": {"location": ""},
    "folder": {"location": "."},
    "short": {"location": "short"},
    "past the end": {"location": WEIGHTS, "offset": "64"},
    "negative": {"location": WEIGHTS, "offset": "-64"},
    "too long": {"location": WEIGHTS, "length": "1000000"},
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_elsewhere_or_cut_are_refused_and_name_the_graph(variant, place):
    (variant / "inner").mkdir()
    (variant / "link").symlink_to("../outside")
    (variant / "short").write_bytes((variant / WEIGHTS).read_bytes()[:-1])
    tiny_graph.write_graph(variant, {key: value.format(folder=variant) for key, value in PLACES[place].items()})
    with pytest.raises(IntegrityError) as refused:
        open_variant(variant)
    assert str(variant / GRAPH) in str(refused.value)
    assert "Build the variant again" in str(refused.value)


def test_weights_beside_the_graph_are_read(variant):
    vectors = open_variant(variant).encode(["Starts a job", "Lists tags"])
    assert np.isfinite(vectors).all()
    assert not np.allclose(vectors[0], vectors[1])
