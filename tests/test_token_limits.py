"""The token limit of a model at download: what its positions allow, whatever the architecture."""

import json
from typing import Any

import pytest
from embed_foundry.errors import InputError
from sentence_transformers import SentenceTransformer

from support import architectures, tiny_model
from support.saved_models import BERT_SETTINGS, CONFIG, edit, edit_weights, read, run

# architecture -> the most tokens, where they come from
LIMITS = {
    "bert": (256, "table"),
    "roberta": (257, "table"),  # 258 rows; the tiny model's padding token is 0, so texts begin at row 1
    "xlm-roberta": (257, "table"),
    "mpnet": (256, "table"),
    "distilbert": (256, "table"),
    "modernbert": (256, "configuration"),
    "qwen3": (256, "configuration"),
    "t5": (None, "none"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_token_limit_is_what_the_positions_allow(saved, name):
    folder = saved(name)
    tokens, source = LIMITS[name]
    loaded = read(folder)
    assert (loaded.limit.tokens, loaded.limit.source) == (tokens, source)
    if source != "table":
        return
    model = SentenceTransformer(str(folder), device="cpu")
    for length in (tokens, tokens + 1):
        model.max_seq_length = length
        if length == tokens:
            assert model.encode("a b " * length).shape == (64,)
        else:
            with pytest.raises((IndexError, RuntimeError)):
                model.encode("a b " * length)


@pytest.mark.parametrize("name", ["bert", "mpnet", "qwen3"])
def test_more_tokens_than_positions_are_refused_with_the_most(saved, name):
    with pytest.raises(
        InputError, match=r"model.max_tokens is 257, .* 256 tokens. Set model.max_tokens to at most 256"
    ):
        run(saved(name), max_tokens=257)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta"])
def test_514_positions_allow_512_tokens(copy, name):
    folder = copy(name)
    table = "embeddings.position_embeddings.weight"
    edit(CONFIG, max_position_embeddings=514, pad_token_id=1)(folder)
    edit_weights(lambda tensors: tensors.update({table: tensors[table][:1].repeat(514, 1)}))(folder)
    with pytest.raises(InputError, match=r"model.max_tokens is 514, .* at most 512"):
        run(folder, max_tokens=514)
    assert read(folder, max_tokens=512).limit.tokens == 512


SIBLINGS: dict[str, tuple[dict[str, Any], int, type[Exception]]] = {
    "gpt2": ({"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}, 256, IndexError),
    # Its table has two rows more than positions, and its module adds two to each.
    "opt": (architectures.BERT | {"ffn_dim": 96, "word_embed_proj_dim": 64}, 256, IndexError),
    # It pads texts to a multiple of its window.
    "longformer": (
        architectures.BERT | {"max_position_embeddings": 258, "attention_window": [16, 16]},
        257,
        IndexError,
    ),
}


@pytest.mark.parametrize("name", SIBLINGS)
def test_the_limit_needs_no_list_of_architectures(tmp_path, monkeypatch, name):
    settings, tokens, error = SIBLINGS[name]
    monkeypatch.setitem(architectures.ARCHITECTURES, name, ("bpe", "mean", settings))
    folder = architectures.build(name, tmp_path / name)
    assert read(folder).limit.tokens == tokens
    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = tokens + 1
    with pytest.raises(error):
        model.encode("a b " * model.max_seq_length)


def test_a_model_without_a_limit_takes_any_and_prints_no_number_for_it(copy):
    folder = copy("t5")
    path = folder / "tokenizer_config.json"
    content = {key: value for key, value in json.loads(path.read_text()).items() if key != "model_max_length"}
    path.write_text(json.dumps(content))
    (folder / BERT_SETTINGS).write_text(json.dumps({"max_seq_length": None}))
    report = run(folder, max_tokens=5000)
    assert report.model.max_seq_length is None
    line = next(line for line in report.model.describe(tiny_model.config(max_tokens=5000)) if "tokens  " in line)
    assert "any length (relative positions); sentence-transformers truncates at no length, this build at 5000" in line
