"""The encoders' contract: what goes in, what comes out, in which order, what is refused and why."""

import threading
import warnings

import numpy as np
import pytest
from embed_foundry import Encoder, InputError, IntegrityError, TruncationWarning, UnknownTextWarning, open_variant
from embed_foundry.encoders.encoder import truncate

KINDS = ["onnx_fp32", "onnx_int8", "openvino_int8", "static", "fp32"]
# Inputs that a user sends sooner or later; each has a finite vector of unit norm.
ODD = [
    "",
    " ",
    "\t\n",
    "\x00",
    "a\x00b",
    "\u200b",
    "\u200f\u202e\u200d",
    "\u202e dlrow",
    "\ufeff",
    "e\u0301" * 50,
    "💥💥",
]


@pytest.fixture(scope="module")
def encoder(converted):
    """Return a function that gives the opened encoder of a default variant."""
    opened: dict[str, Encoder] = {}

    def get(name: str) -> Encoder:
        if name not in opened:
            opened[name] = open_variant(converted(name), 2)
        return opened[name]

    return get


@pytest.mark.parametrize("name", KINDS)
def test_gives_unit_float32_rows_in_the_order_of_the_texts(encoder, probes, name):
    subject = encoder(name)
    vectors = subject.encode(probes)
    assert vectors.dtype == np.float32
    assert vectors.shape == (50, subject.variant.dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    order = np.random.default_rng(0).permutation(50)
    shuffled = subject.encode([probes[index] for index in order], batch_size=7)
    assert ((shuffled * vectors[order]).sum(axis=1) > 0.99999).all()


@pytest.mark.parametrize("name", [name for name in KINDS if name != "static"])
def test_a_call_of_many_long_texts_is_split(encoder, monkeypatch, name):
    subject = encoder(name)
    method = "_call" if name == "fp32" else "_infer"
    run, calls = getattr(subject, method), []
    monkeypatch.setattr(subject, method, lambda call: calls.append(call) or run(call))
    texts = [*["long " * 300] * 100, "short"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        vectors = subject.encode(texts, batch_size=1000)
        counts = [len(call) if name == "fp32" else len(call["input_ids"]) for call in calls]
        alone = np.concatenate([subject.encode([text]) for text in texts[-2:]])
    np.testing.assert_allclose(vectors[-2:], alone, atol=2e-5)
    assert sum(counts) == 101
    assert max(counts) == (1 if subject.variant.batching == "single" else 16384 // 256)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("batch_size", [1, 2, 49, 1000])
def test_batching_does_not_change_a_vector(encoder, probes, name, batch_size):
    expected = encoder(name).encode(probes)
    np.testing.assert_allclose(encoder(name).encode(probes, batch_size=batch_size), expected, atol=2e-5)


@pytest.mark.parametrize("name", KINDS)
def test_no_texts_give_no_rows(encoder, name):
    width = encoder(name).variant.dimensions
    assert encoder(name).encode([]).shape == (0, width)
    assert encoder(name).encode([], dimensions=128).shape == (0, 128)
    assert encoder(name).count_tokens([]) == []


@pytest.mark.filterwarnings("ignore::embed_foundry.UnknownTextWarning")
@pytest.mark.parametrize("name", KINDS)
def test_odd_texts_have_defined_vectors(encoder, name):
    vectors = encoder(name).encode(ODD)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    again = np.concatenate([encoder(name).encode([text]) for text in ODD])
    assert ((vectors * again).sum(axis=1) > 0.9999).all()


REFUSED = {
    "lone surrogate": (["fine", "\ud800"], {}, "text 1 holds a lone surrogate"),
    "not a string": (["fine", "fine", 3], {}, "text 2 is a int; expected a string"),
    "bytes": ([b"bytes"], {}, "text 0 is a bytes; expected a string"),
    "nothing": ([None], {}, "text 0 is a NoneType"),
    "one string": ("hello", {}, "expected a list of strings"),
    "unknown prompt": (["fine"], {"prompt": "qeury"}, "prompt 'qeury' is unknown"),
    "no dimensions": (["fine"], {"dimensions": 0}, "dimensions 0 is out of range"),
    "negative dimensions": (["fine"], {"dimensions": -1}, "dimensions -1 is out of range"),
    "too many dimensions": (["fine"], {"dimensions": 385}, "dimensions 385 is out of range"),
    "an empty batch": (["fine"], {"batch_size": 0}, "batch_size 0 is out of range"),
    "a negative batch": (["fine"], {"batch_size": -1}, "batch_size -1 is out of range"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("name", ["onnx_int8", "static"])
def test_bad_calls_are_refused_with_a_reason(encoder, name, case):
    texts, arguments, words = REFUSED[case]
    with pytest.raises(InputError) as caught:
        encoder(name).encode(texts, **arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_matryoshka_truncates_and_normalises_again(encoder, probes, name):
    full = encoder(name).encode(probes[:5])
    for length in (1, 64, 128, full.shape[1]):
        short = encoder(name).encode(probes[:5], dimensions=length)
        assert short.shape == (5, length)
        expected = full[:, :length] / np.linalg.norm(full[:, :length], axis=1, keepdims=True)
        np.testing.assert_allclose(short, expected, atol=1e-6)


@pytest.mark.parametrize(
    "row",
    [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0, 1.0]],
    ids=["zero", "nan", "inf", "zero after it"],
)
def test_a_vector_without_a_direction_is_an_error_never_nan(row):
    good = [1.0] * len(row)
    with pytest.raises(IntegrityError, match=r"1 of 3 vectors .*first that of text 1, 'b{60}'"):
        truncate(np.array([good, row, good], dtype=np.float32), 2, ["a", "b" * 100, "c"])


def test_tiny_and_huge_vectors_keep_their_direction():
    for scale in (1e-30, 1e30):
        vectors = np.array([[3, 4]], dtype=np.float32) * np.float32(scale)
        np.testing.assert_allclose(truncate(vectors, 2, ["a"]), [[0.6, 0.8]])


@pytest.mark.parametrize("name", KINDS)
def test_truncation_is_reported_once_and_equals_the_truncated_text(encoder, name):
    subject, word = encoder(name), "cat "
    special = 0 if name == "static" else 2
    fits = word * (256 - special)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at_limit = subject.encode([fits])
    with pytest.warns(
        TruncationWarning, match=r"2 of 4 texts exceed 256 tokens and were truncated \(first: text 1\)"
    ) as warned:
        vectors = subject.encode(["short", fits + word, fits, fits * 3], batch_size=2)
    assert len(warned) == 1
    assert ((vectors[1:] @ at_limit[0]) > 0.9999).all()
    assert subject.count_tokens(["cat", fits, fits + word, fits * 3]) == [
        1 + special,
        256,
        257,
        (256 - special) * 3 + special,
    ]


@pytest.mark.parametrize("name", KINDS)
def test_an_encoder_opened_for_fewer_tokens_truncates_there(converted, encoder, name):
    """The vector is that of the truncated text, by the same tokenizer, and the truncation is reported."""
    subject, special = encoder(name), encoder(name).count_tokens([""])[0]
    short = open_variant(converted(name), 2, max_tokens=special + 3)
    with pytest.warns(TruncationWarning, match=f"exceed {special + 3} tokens"):
        vectors = short.encode(["cat dog bird fish"])
    assert (vectors @ subject.encode(["cat dog bird"])[0] > 0.9999).all()
    for limit in (257, special):  # with special tokens alone there is no room for a text
        with pytest.raises(InputError, match=rf"{limit} is out of range .*: {special + 1} to 256"):
            open_variant(converted(name), 2, max_tokens=limit)


@pytest.mark.parametrize("name", KINDS)
def test_threads_may_share_an_encoder(encoder, name):
    """A service's threads: some texts are truncated, others counted, at the same time."""
    subject, long = encoder(name), "cat " * 600
    with pytest.warns(TruncationWarning):
        expected = subject.encode([long])
    count = subject.count_tokens([long])
    wrong: list[object] = []

    def use() -> None:
        try:
            for _ in range(12):
                if not np.allclose(subject.encode([long]), expected, atol=1e-5):
                    wrong.append("another vector")
                if subject.count_tokens([long]) != count:
                    wrong.append("another count")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_table_says_which_texts_it_knows_nothing_of(encoder):
    with pytest.warns(UnknownTextWarning, match=r"2 of 3 texts have no token that static knows \(first: text 1\)"):
        encoder("static").encode(["hello", "", " "])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder("static").encode(["hello"])


@pytest.mark.parametrize("name", KINDS)
def test_token_ids_are_those_that_the_model_is_given(encoder, name):
    subject, long = encoder(name), "cat " * 400
    ids = subject.token_ids(["cat", long, ""])
    assert [len(row) for row in ids] == [min(count, 256) for count in subject.count_tokens(["cat", long, ""])]
    if name != "static":
        assert ids == [[101, 4937, 102], [101, *[4937] * 254, 102], [101, 102]]


@pytest.mark.parametrize(("name", "least"), [("onnx_fp32", 0.9999), ("fp32", 0.99999), ("onnx_int8", 0.95)])
def test_equals_sentence_transformers(encoder, probes, reference, name, least):
    alone = np.concatenate([encoder(name).encode([text]) for text in probes])
    assert (alone * reference).sum(axis=1).min() >= least


@pytest.mark.filterwarnings("ignore::embed_foundry.UnknownTextWarning")
def test_static_equals_model2vec(encoder, probes, converted):
    from model2vec import StaticModel
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = converted("static")
    table = load_file(folder / "table.safetensors")["embeddings"]
    theirs = StaticModel(table, Tokenizer.from_file(str(folder / "tokenizer.json")), normalize=True)
    texts = [*probes, *ODD]
    expected = theirs.encode(texts)
    known = np.abs(expected).sum(axis=1) > 0  # they give zeros where no token is known; we give a vector
    assert known[: len(probes)].all()
    np.testing.assert_allclose(encoder("static").encode(texts)[known], expected[known], atol=1e-6)
