"""Vectors in fewer bytes: the rules that docs/service.md states."""

import base64

import numpy as np
import pytest
from embed_foundry.serve import precision
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.util import quantize_embeddings

UNIT = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=70).map(lambda row: np.array([row], dtype=np.float32))


@given(UNIT)
def test_int8_errs_by_half_a_step(vectors):
    packed = precision.to_int8(vectors)
    assert np.abs(packed / 127.0 - vectors).max() <= 0.5 / 127 + 1e-7
    assert packed.min() >= -127
    assert (precision.to_uint8(vectors).astype(int) - 128 == packed).all()


@given(UNIT)
def test_float16_errs_by_half_a_step(vectors):
    assert np.abs(precision.to_float16(vectors).astype(np.float64) - vectors).max() <= 2.0**-12


@given(UNIT)
def test_bits_are_one_above_zero_and_the_first_value_is_the_highest_bit(vectors):
    packed = precision.to_ubinary(vectors)
    bits = "".join(f"{byte:08b}" for byte in packed[0])
    assert bits[: vectors.shape[1]] == "".join("1" if value > 0 else "0" for value in vectors[0])
    assert set(bits[vectors.shape[1] :]) <= {"0"}
    assert (precision.to_binary(vectors).astype(int) + 128 == packed).all()


@pytest.mark.parametrize("name", ["binary", "ubinary"])
def test_bits_are_those_of_sentence_transformers(name):
    vectors = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    vectors[0, :8] = 0
    assert (precision.ENCODINGS[name](vectors) == quantize_embeddings(vectors, precision=name)).all()


def test_base64_is_little_endian_on_any_host():
    vectors = np.array([[1.0, -2.5]], dtype=np.float32)
    for order in "<>":
        (text,) = precision.to_base64(vectors.astype(f"{order}f4"))
        assert base64.b64decode(text) == b"\x00\x00\x80\x3f\x00\x00\x20\xc0"


def test_a_vectors_bytes_depend_on_no_other_vector():
    vectors = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for encode in precision.ENCODINGS.values():
        whole = encode(vectors)
        for row in range(20):
            assert np.array_equal(encode(vectors[row : row + 1])[0], whole[row])
