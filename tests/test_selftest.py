"""The self-test: each of its checks finds what it is for, also where all others pass."""

import numpy as np
import pytest
from embed_foundry import IntegrityError, selftest

RNG = np.random.default_rng(0)
COUNT, WIDTH = 20, 64


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# Like real texts: a common direction, and neighbours.
COMMON = unit(RNG.normal(size=(1, WIDTH)))
GOLDEN = unit(0.45 * COMMON + unit(RNG.normal(size=(COUNT, WIDTH))))
NAMES = [f"text {number}" for number in range(COUNT)]


def faults(vectors: np.ndarray) -> list[str]:
    return list(selftest.find_faults(vectors.astype(np.float32), GOLDEN, NAMES))


def swap_rankings() -> np.ndarray:
    """Move each vector a little towards the one that is farthest from it."""
    farthest = np.argmin(GOLDEN @ GOLDEN.T, axis=1)
    return unit(GOLDEN + 0.13 * GOLDEN[farthest])


def collapse() -> np.ndarray:
    """Move all vectors towards one another."""
    return unit(GOLDEN + 0.11 * COMMON)


def with_row(index: int, row: np.ndarray) -> np.ndarray:
    vectors = GOLDEN.copy()
    vectors[index] = row
    return vectors


def test_the_same_vectors_pass():
    assert faults(GOLDEN) == []
    assert faults(unit(GOLDEN + 0.01 * unit(RNG.normal(size=GOLDEN.shape)))) == []


WRONG = {
    "another shape": (GOLDEN[:, :32], "vectors of shape (20, 32), recorded (20, 64)"),
    "not finite": (with_row(3, np.full(WIDTH, np.nan)), "not finite for 'text 3'"),
    "infinite": (with_row(4, np.full(WIDTH, np.inf)), "not finite for 'text 4'"),
    "length": (1.01 * GOLDEN, "length 1.0100"),
    "cosine": (with_row(5, unit(RNG.normal(size=(1, WIDTH)))[0]), "to the recorded vector for 'text 5'"),
    "ranking": (swap_rankings(), "rankings of probes changed"),
    "collapse": (collapse(), "the space has collapsed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case):
    vectors, words = WRONG[case]
    assert any(words in fault for fault in faults(vectors)), faults(vectors)


@pytest.mark.parametrize(("case", "blind"), [("ranking", "cosine"), ("collapse", "cosine"), ("length", "cosine")])
def test_what_cosines_do_not_see(case, blind):
    """Vectors that pass one by one may still answer searches wrongly."""
    vectors = WRONG[case][0]
    assert (vectors * GOLDEN).sum(axis=1).min() >= selftest.COSINE
    assert not any(blind in fault for fault in faults(vectors))


class Leaky:
    """An encoder whose vectors remember the longest text."""

    def __init__(self, leak: float) -> None:
        self.leak, self.last = leak, np.zeros(WIDTH)

    def encode(self, texts: list[str], *, prompt: str | None) -> np.ndarray:
        row = GOLDEN[NAMES.index(texts[0])] + self.leak * self.last
        self.last = GOLDEN[0] if texts[0] == NAMES[0] else np.zeros(WIDTH)
        return unit(row[None])


@pytest.mark.parametrize(("leak", "passes"), [(0.0, True), (0.02, False)])
def test_state_that_leaks_from_a_long_text_into_a_short_one_is_found(leak, passes):
    names = NAMES.copy()
    probes = [{"text": name, "prompt": None} for name in names]
    probes[7]["text"] = names[7] = "t"
    encoder = Leaky(leak)
    encoder.encode = lambda texts, prompt: Leaky.encode(  # the shortest probe is a name too
        encoder, [NAMES[names.index(texts[0])]], prompt=prompt
    )
    if passes:
        assert selftest.run(encoder, probes, GOLDEN).cosine > 0.9999
    else:
        with pytest.raises(IntegrityError, match=r"the shortest probe moves by .* after the longest one"):
            selftest.run(encoder, probes, GOLDEN)
