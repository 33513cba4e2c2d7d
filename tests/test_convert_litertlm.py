"""LiteRT-LM variants: one file that LiteRT-LM's own engine opens, with the base model's vectors."""

import io
import json

import numpy as np
import pytest
import yaml
from embed_foundry import InputError, IntegrityError, TruncationWarning, manifest, open_bundle, open_variant
from litert_lm_builder import litertlm_peek

from stages import convert
from stages.commands import compose
from stages.common import config
from stages.common.config.variant import LitertlmRecipe
from stages.convert import litertlm
from stages.convert.tokenizer import SpecialIds
from support import small_release, tiny_sentencepiece

LENGTHS = [32, 300]
TEXTS = ["cat", "", "Returns a list of all buckets.", "日本語のテキスト", "a cat on a mat " * 60]


@pytest.fixture(scope="module")
def gemma(base, tmp_path_factory):
    """Return a tiny Gemma3 with a sliding window and a SentencePiece tokenizer."""
    return tiny_sentencepiece.write(tmp_path_factory.mktemp("gemma"), base / "tokenizer.json")


@pytest.fixture(scope="module")
def model(params):
    changes = {"name": "gemma", "dimensions": 48, "matryoshka": [48, 16], "max_tokens": 1024}
    return params.model.model_copy(update=changes | {"prompts": {"query": "task: search result | query: "}})


@pytest.fixture(scope="module")
def recipe(recipes):
    return recipes["litertlm_int8"].model_copy(update={"lengths": LENGTHS})


@pytest.fixture(scope="module")
def variant(gemma, model, recipe, tmp_path_factory):
    """Return a function that converts a variant and returns its folder."""
    folder = tmp_path_factory.mktemp("variants")
    recipes = {
        "fp32": config.variant.TorchRecipe(kind="torch", precision="fp32"),
        "litertlm_int8": recipe,
        "litertlm_fp32": LitertlmRecipe(kind="litertlm", precision="fp32", lengths=LENGTHS, rules=[]),
    }

    def converted(name):
        if not (folder / name).exists():
            convert.run(name, recipes[name], model, gemma, folder / name, cache=folder / "cache")
        return folder / name

    return converted


def read_parity(folder):
    return json.loads((folder / "variant.json").read_bytes())["parity"]


def test_the_engine_gives_the_models_vectors(variant, gemma):
    from sentence_transformers import SentenceTransformer

    encoder = open_variant(variant("litertlm_fp32"))
    original = SentenceTransformer(str(gemma), device="cpu", local_files_only=True)
    original.max_seq_length = 300
    with pytest.warns(TruncationWarning, match="1 of 5 texts exceed 300 tokens"):
        vectors = encoder.encode(TEXTS)
    expected = np.concatenate([original.encode([text], normalize_embeddings=True) for text in TEXTS])
    assert (vectors * expected).sum(axis=1).min() > 0.99999
    assert read_parity(variant("litertlm_fp32"))["cosine_min"] > 0.9999
    prompted = encoder.encode(["cat"], prompt="query")
    np.testing.assert_allclose(prompted, encoder.encode(["task: search result | query: cat"]), atol=1e-6)
    assert encoder.count_tokens(["cat"]) == [len(original.tokenizer("cat")["input_ids"])]


def test_a_text_is_refused_where_the_engine_would_fail_or_see_more_of_it(variant):
    encoder = open_variant(variant("litertlm_fp32"))
    with pytest.raises(InputError, match=r"text 1 holds the token '<mask>' \(id 900\), and the model has rows for 900"):
        encoder.encode(["cat", "a <mask>"])
    with pytest.raises(InputError, match="max_tokens 64: LiteRT-LM truncates litertlm_fp32 at 300"):
        open_variant(variant("litertlm_fp32"), max_tokens=64)


@pytest.mark.slow
def test_a_bert_is_packed_as_well(converted, reference, probes):
    """Real all-MiniLM-L6-v2, whose tokenizer is no SentencePiece."""
    folder = converted("litertlm_int8")
    cosines = (open_variant(folder).encode(probes) * reference).sum(axis=1)
    assert cosines.mean() > 0.99
    assert read_parity(folder)["cosine_min"] > 0.97
    assert (folder / "model.litertlm").stat().st_size < 30e6


def test_opening_writes_nothing_beside_the_file(variant):
    folder = variant("litertlm_int8")
    open_variant(folder).encode(["cat"])
    manifest.verify(folder)


def test_eight_bits_are_close_and_smaller(variant):
    assert read_parity(variant("litertlm_int8"))["cosine_mean"] > 0.99
    sizes = {name: (variant(name) / "model.litertlm").stat().st_size for name in ("litertlm_fp32", "litertlm_int8")}
    assert sizes["litertlm_int8"] < 0.7 * sizes["litertlm_fp32"]
    encoder = open_variant(variant("litertlm_int8"))
    np.testing.assert_array_equal(encoder.encode(["cat", "dog"])[1], encoder.encode(["dog"])[0])


def test_lengths_share_their_weights_and_the_bytes_are_the_same_twice(variant, gemma, model, recipe, tmp_path):
    folder = variant("litertlm_int8")
    single = recipe.model_copy(update={"lengths": [300]})
    convert.run("litertlm_int8", single, model, gemma, tmp_path / "single", cache=tmp_path / "cache")
    convert.run("litertlm_int8", recipe, model, gemma, tmp_path / "twice", cache=tmp_path / "cache")
    assert manifest.read(tmp_path / "twice").hashes == manifest.read(folder).hashes
    sizes = [(place / "model.litertlm").stat().st_size for place in (tmp_path / "single", folder)]
    assert sizes[1] < 1.4 * sizes[0], "a second length adds operations, not weights"
    listing = io.StringIO()
    litertlm_peek.peek_litertlm_file(str(folder / "model.litertlm"), None, listing)
    for part in ("tf_lite_embedder", "tf_lite_text_encoder", "HF_Tokenizer", "EmbeddingMetadata"):
        assert part.lower() in listing.getvalue().lower(), part


def test_what_the_engine_cannot_take_is_refused(variant, tmp_path):
    for before, after in (([2], []), ([2, 3], [1]), ([0], [1])):
        with pytest.raises(InputError, match="puts one and one, and pads with token 0"):
            litertlm.require_engine(SpecialIds(before, after), "right")
    with pytest.raises(InputError, match="truncates on the left"):
        litertlm.require_engine(SpecialIds([2], [1]), "left")
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in variant("litertlm_int8").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.litertlm").write_bytes(b"LITERTLM" + bytes(100))
    with pytest.raises(IntegrityError, match="LiteRT-LM cannot open it"):
        open_variant(broken)


def test_the_release_names_the_file_for_apps(variant, gemma, model, root, tmp_path):
    composed = yaml.safe_load(compose.compose(["target=android_litertlm"], root / "conf"))
    target = config.parse(composed, "conf/").target.model_copy(update={"limits": {}})
    build = small_release.start(tmp_path, gemma, variant, model, target, root, ("fp32", "litertlm_int8"))
    folder = build.release()
    description = json.loads((folder / "android.json").read_bytes())
    entry = description["litertlm"]["litertlm_int8"]
    assert manifest.sha256(folder / entry["container"]["file"]) == entry["container"]["sha256"]
    assert (entry["lengths"], entry["dimensions"]) == (LENGTHS, 48)
    assert entry["tasks"] == {"RETRIEVAL_QUERY": "task: search result | query: "}
    assert entry["matryoshka"]["model_signatures"]["48"] == f"{entry['space_id']}-48"
    assert open_bundle(folder).variant.name == "litertlm_int8"
