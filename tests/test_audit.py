"""audit: how much of an index other bytes made."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from embed_foundry import Bundle
from embed_foundry.spaces import audit
from pyarrow import parquet
from scipy.stats import beta

from support.spaces import read_passages

PLANTED = 40


def test_an_audit_finds_planted_vectors_and_bounds_the_rest(run_command, first_release, tmp_path):
    passages = [f"{text} {number}" for number in range(20) for text in read_passages()]
    vectors = Bundle.load(first_release).open("static").encode(passages)
    np.save(tmp_path / "index.npy", vectors)
    (tmp_path / "texts.txt").write_text("\n".join(passages), encoding="utf-8")
    command = ("audit", tmp_path / "index.npy", first_release, "--texts", tmp_path / "texts.txt", "--seed", "0")
    code, output, errors = run_command(*command)
    assert code == 0, errors
    assert "equal but for rounding: 300; another vector (cosine below 0.99): 0" in output
    assert "0.00 to 0.99 %" in output
    places = np.random.default_rng(1).choice(len(passages), PLANTED, replace=False)
    vectors[places] = vectors[places][:, ::-1]
    np.save(tmp_path / "index.npy", vectors)
    code, output, errors = run_command(*command, "--fraction", "1")
    assert code == 4
    assert f"another vector (cosine below 0.99): {PLANTED}" in output
    assert (
        f"{PLANTED} of {len(passages)} are not the release's: rows {', '.join(map(str, sorted(places)[:10]))}" in errors
    )
    assert run_command(*command, "--fraction", "1", "--limit", "0.02")[0] == 0


REFUSALS = {
    "few texts": ("index.npy", "few.txt", "has 150 vectors, but there are 3 texts. They must pair."),
    "no texts": ("index.npy", None, "has no texts. Name them: --texts FILE, in the index's order."),
    "no index": ("none.npy", "few.txt", "no such file. Expected vectors in .npy"),
    "integers": ("integers.npy", "few.txt", "holds int64 [3, 4]; expected floats [n, d]."),
    "long": ("long.npy", "few.txt", "has vectors of 9999 dimensions, static has"),
    "objects": ("objects.npy", "few.txt", "cannot be read as .npy"),
    "another format": ("few.txt", "few.txt", "unknown format '.txt'"),
    "another column": ("other.parquet", None, "has columns ['x']; expected lists of floats in 'vector'"),
    "ragged": ("ragged.parquet", None, "vector holds no floats of one length"),
}


@pytest.fixture(scope="module")
def indexes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("indexes")
    np.save(folder / "index.npy", np.ones((150, 8), np.float32))
    np.save(folder / "integers.npy", np.ones((3, 4), np.int64))
    np.save(folder / "long.npy", np.ones((3, 9999), np.float32))
    np.save(folder / "objects.npy", np.array([[None]]), allow_pickle=True)
    (folder / "few.txt").write_text("a\nb\nc\n")
    parquet.write_table(pa.table({"x": [1]}), folder / "other.parquet")
    parquet.write_table(pa.table({"vector": [[1.0], [1.0, 2.0]], "text": ["a", "b"]}), folder / "ragged.parquet")
    return folder


@pytest.mark.parametrize("case", REFUSALS)
def test_an_index_that_cannot_be_audited_is_refused_by_name(run_command, first_release, indexes, case):
    index, texts, message = REFUSALS[case]
    options = ["--texts", indexes / texts] if texts else []
    code, _, errors = run_command("audit", indexes / index, first_release, *options)
    assert (code, errors.count("\n")) == (2, 1)
    assert message in errors


def test_an_audit_counts_what_is_no_direction_as_foreign(run_command, first_release, tmp_path):
    passages = read_passages()
    vectors = Bundle.load(first_release).open("static").encode(passages)
    vectors[3], vectors[5] = 0, np.nan
    table = pa.table({"vector": list(vectors), "text": passages})
    parquet.write_table(table, tmp_path / "index.parquet")
    code, _, errors = run_command("audit", tmp_path / "index.parquet", first_release)
    assert code == 4
    assert "2 of 150 are not the release's: rows 3, 5." in errors


def test_bounds_of_a_share_are_the_exact_ones():
    """0 of 300: 1 - 0.05 ** (1 / 300). 3 of 100: scipy's beta quantiles."""
    assert audit.bound_share(0, 300, 10_000) == (0.0, pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-9))
    low, high = audit.bound_share(3, 100, 10_000)
    assert (low, high) == (pytest.approx(beta.ppf(0.05, 3, 98)), pytest.approx(beta.ppf(0.95, 4, 97)))
    assert audit.bound_share(300, 300, 10_000)[1] == 1.0
    assert audit.bound_share(2, 50, 50) == (0.04, 0.04)
