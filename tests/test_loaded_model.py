"""The check at download: what a model is in a few lines, and what no variant could compute refused in one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from embed_foundry import manifest
from embed_foundry.errors import InputError
from sentence_transformers.sentence_transformer import modules

from stages.common.sources.base_model.loaded import LoadedModel
from support import tiny_model
from support.saved_models import (
    BERT_SETTINGS,
    CONFIG,
    SETTINGS,
    Change,
    add_tokens,
    edit,
    edit_weights,
    keep_only_vocabulary,
    move_transformer,
    nan,
    read,
    rename,
    run,
    save_modules,
)


def test_a_plain_model_is_said_in_a_few_lines(saved):
    folder = saved(dimensions=40)
    values = {"dimensions": 40, "matryoshka": [40], "max_tokens": 64}
    report = run(folder, **values)
    size = report.model.weights.parameters
    assert report.model.describe(tiny_model.config(**values)) == [
        "someone/tiny, as sentence-transformers loads it:",
        f"  architecture  bert (BertModel), {size:,} parameters, float32",
        "  modules       Transformer > Pooling (mean) > Dense (64 to 40, Tanh) > Normalize",
        "  vectors       40 dimensions, unit norm, compared by cosine",
        "  tokens        at most 256 (its table of positions); sentence-transformers truncates at 256, this build at "
        "64, on the right",
        f"  vocabulary    {report.model.vocabulary.tokens} tokens, 600 embedding rows",
        "  prompts       none",
    ]


def test_the_manifest_keeps_what_the_model_is(saved, tmp_path):
    folder = saved()
    files = dict.fromkeys(manifest.files_of(folder))
    values = {"dimensions": 64, "matryoshka": [64], "max_tokens": 64}
    report = tiny_model.run_download(folder, tmp_path / "base", files=files, **values)
    kept = manifest.verify(tmp_path / "base").parameters["loaded"]
    assert LoadedModel.model_validate_json(json.dumps(kept), strict=True) == report.model


MESSAGE = {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"}
TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
STUB = {"method": "forward", "method_output_name": "logits"}
OUTPUT = {"module_output_name": "token_embeddings"}
POOLED = modules.Pooling(64)
# What was changed in a plain BERT -> what the error says.
REFUSED: dict[str, tuple[Change, str]] = {
    "chat template": (
        edit(BERT_SETTINGS, modality_config={"text": TEXT, "message": MESSAGE}, **OUTPUT),
        'chat template .modality "message".*modality_config',
    ),
    "no text": (edit(BERT_SETTINGS, modality_config={"image": TEXT}, **OUTPUT), "it takes image, expected text"),
    "another head": (
        edit(BERT_SETTINGS, transformer_task="fill-mask", modality_config={"text": STUB}, **OUTPUT),
        "sets transformer_task to fill-mask, expected feature-extraction",
    ),
    "query length": (edit(BERT_SETTINGS, query_length=32), "sets query_length, which truncates queries"),
    "document length": (edit(BERT_SETTINGS, document_length=32), "sets document_length"),
    "query expansion": (
        edit(BERT_SETTINGS, query_expansion={"strategy": "fixed", "length": 32}),
        "sets query_expansion, which pads queries",
    ),
    "processing": (edit(BERT_SETTINGS, processing_kwargs={"text": {"padding": "max_length"}}), "processing_kwargs"),
    "another tokenizer": (edit(BERT_SETTINGS, tokenizer_name_or_path="a/b"), "takes the tokenizer from another place"),
    "old settings": (edit("sentence_roberta_config.json", query_length=32), "sentence_roberta_config.json: sets query"),
    "sparse": (edit(SETTINGS, model_type="SparseEncoder"), "is a SparseEncoder, expected a SentenceTransformer"),
    "adapter": (edit("adapter_config.json", peft_type="LORA"), "is an adapter.*merge_and_unload"),
    "quantised": (edit(CONFIG, quantization_config={"quant_method": "bnb"}), r"quantised already \(bnb\)"),
    "unknown architecture": (edit(CONFIG, model_type="hyperbert"), "cannot load it .*hyperbert"),
    "default prompt": (
        edit(SETTINGS, prompts={"query": "q: "}, default_prompt_name="query"),
        "default_prompt_name is 'query'.*null",
    ),
    "shorter vectors": (edit(SETTINGS, truncate_dim=32), r"truncate_dim is 32, .* put 32 into model.matryoshka"),
    "dot product": (save_modules(POOLED, similarity_fn_name="dot"), "vectors of any norm by dot .*set .*cosine"),
    "distance": (save_modules(POOLED, similarity_fn_name="euclidean"), "vectors of any norm by euclidean"),
    "city blocks": (
        save_modules(POOLED, modules.Normalize(), similarity_fn_name="manhattan"),
        "vectors of unit norm by manhattan",
    ),
    "no pooling": (save_modules(), "give one vector a token, expected one a text. Add a Pooling"),
    "convolution": (save_modules(modules.CNN(64, 64, [1]), POOLED), "has the module CNN; expected Transformer"),
    "recurrence": (save_modules(modules.LSTM(64, 64), POOLED), "has the module LSTM"),
    "lost weights": (
        edit_weights(lambda tensors: tensors.pop("encoder.layer.1.attention.self.query.weight")),
        "files lack encoder.layer.1.attention.self.query.weight, which vectors depend on.*random",
    ),
    "lost table": (
        edit_weights(lambda tensors: tensors.pop("embeddings.word_embeddings.weight")),
        "files lack embeddings.word_embeddings.weight",
    ),
    "not a number": (edit_weights(nan), "word_embeddings.weight holds numbers that are not finite"),
    "token without row": (lambda folder: add_tokens(folder, ordinary=True), "600 rows: none for 'zzzz'.*trained with"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "cannot load it"),
    "slow tokenizer": (
        edit("tokenizer_config.json", tokenizer_class="CanineTokenizer"),
        "tokenizer CanineTokenizer is written in Python.*fast tokenizer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_variant_could_compute_is_refused_in_one_line(copy, case):
    change, expected = REFUSED[case]
    folder = copy()
    change(folder)
    with pytest.raises(InputError, match=expected) as caught:
        run(folder)
    assert "\n" not in str(caught.value)
    assert ".partial" not in str(caught.value)


def test_modules_without_a_transformer_are_refused(tmp_path):
    for name, module in {"static": modules.StaticEmbedding, "bow": modules.BoW}.items():
        folder = tiny_model.write(tmp_path / name)
        reference = f"sentence_transformers.sentence_transformer.modules.{module.__name__}"
        (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": reference}]))
        with pytest.raises(InputError, match=f"has the module {module.__name__}; expected Transformer"):
            run(folder)


# What was changed in a plain BERT -> configuration, what of the record.
TAKEN: dict[str, tuple[Change, dict[str, Any], Callable[[LoadedModel], bool]]] = {
    "dot product of unit vectors": (edit(SETTINGS, similarity_fn_name="dot"), {}, lambda m: m.similarity == "dot"),
    "distance of unit vectors": (edit(SETTINGS, similarity_fn_name="euclidean"), {}, lambda m: m.unit_norm),
    "no unit norm": (save_modules(POOLED), {}, lambda m: not m.unit_norm and m.similarity == "cosine"),
    "no pooler": (
        edit_weights(lambda tensors: [tensors.pop(f"pooler.dense.{part}") for part in ("weight", "bias")]),
        {},
        lambda m: m.weights.random == ("pooler.dense.bias", "pooler.dense.weight"),
    ),
    "a task's head": (
        edit_weights(lambda tensors: tensors.update({"cls.bias": tensors["pooler.dense.bias"] * 2})),
        {},
        lambda m: m.weights.unread == ("cls.bias",),
    ),
    "names of 2018": (
        rename(lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")),
        {},
        lambda m: m.weights.random == m.weights.unread == (),
    ),
    "names of a model with a task": (
        rename("bert.{}".format),
        {},
        lambda m: m.weights.random == m.weights.unread == (),
    ),
    "vocabulary alone": (keep_only_vocabulary, {}, lambda m: m.vocabulary.tokenizer == "BertTokenizer"),
    "added token without row": (
        lambda folder: add_tokens(folder, ordinary=False),
        {},
        lambda m: m.vocabulary.without_row == ("<image>",),
    ),
    "lower case": (edit(BERT_SETTINGS, do_lower_case=True), {}, lambda m: m.lower_case),
    "left": (
        edit("tokenizer_config.json", truncation_side="left", padding_side="left"),
        {},
        lambda m: (m.truncation_side, m.padding_side) == ("left", "left"),
    ),
    "chat template beside plain text": (
        edit("tokenizer_config.json", chat_template="{{ messages }}"),
        {},
        lambda m: m.chat_template and m.modalities == ("text",),
    ),
    "prompt not pooled": (
        edit("1_Pooling/config.json", include_prompt=False),
        {},
        lambda m: m.pooling is not None and not m.pooling.include_prompt,
    ),
    "modes": (
        save_modules(modules.Pooling(64, ("mean", "max"))),
        {"dimensions": 128, "matryoshka": [128]},
        lambda m: m.pooling is not None and m.pooling.modes == ("mean", "max"),
    ),
    "empty default prompt": (
        edit(SETTINGS, prompts={"document": ""}, default_prompt_name="document"),
        {},
        lambda m: m.prompts == {},
    ),
    "a class of transformers' own": (
        edit(CONFIG, auto_map={"AutoModel": "someone/code--modeling.BertModel"}),
        {},
        lambda m: m.code == ("BertModel",),
    ),
    "settings of the model": (
        edit(BERT_SETTINGS, model_args={"attn_implementation": "eager"}),
        {},
        lambda m: m.settings["model_args"]["attn_implementation"] == "eager",
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_variants_can_compute_is_taken_and_said(copy, case):
    change, configuration, holds = TAKEN[case]
    folder = copy()
    change(folder)
    assert holds(read(folder, **configuration))


OWN = {"query": "q: ", "passage": "p: "}
# The model's prompts, those configured -> what the error says; "" if they are taken.
PROMPTS: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "none configured": (
        OWN,
        {},
        r"has prompts 'query', 'passage', and model.prompts lacks 'document', 'query'.*"
        r'conf/model/tiny.yaml: prompts: \{query: "q: ", document: "p: "\}',
    ),
    "the model's names": (OWN, OWN, r"has 'passage', which mteb never asks for.*document: \"p: \"\}"),
    "mteb's names": (OWN, {"query": "q: ", "document": "p: "}, ""),
    "other texts": (OWN, {"query": "Q: ", "document": ""}, ""),
    "without the corpus": (OWN, {"query": "q: "}, "lacks 'document'"),
    "task types": ({"STS": "s: ", "BitextMining": "b: "}, {"STS": "s: "}, "lacks 'BitextMining'"),
    "all of the task types": ({"STS": "s: "}, {"STS": "s: ", "Retrieval-query": "q: "}, ""),
    "names of nobody": ({"web_search_query": "w: "}, {}, r"lacks all of them.*prompts: \{query: \"w: \"\}"),
    "names of nobody, settled": ({"web_search_query": "w: "}, {"query": "w: "}, ""),
    "only configured": ({}, {"query": "q: "}, ""),
    "invented": ({}, {"anfrage": "q: "}, "has 'anfrage', which mteb never asks for.*query: \"q: \""),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_prompts_carry_mtebs_names(copy, case):
    own, configured, expected = PROMPTS[case]
    folder = copy()
    edit(SETTINGS, prompts=own)(folder)
    if not expected:
        assert read(folder, prompts=configured).prompts == own
        return
    with pytest.raises(InputError, match=expected):
        run(folder, prompts=configured)


def test_an_error_names_every_reason_at_once_after_what_the_model_is(saved, capsys):
    with pytest.raises(InputError, match=r"model.dimensions is 32, .*Also: model.max_tokens is 257"):
        run(saved(), dimensions=32, matryoshka=[32], max_tokens=257)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "download: someone/tiny, as sentence-transformers loads it:"
    assert {line.split()[0] for line in lines[1:]} >= {"architecture", "modules", "vectors", "tokens", "vocabulary"}


def test_a_model_from_before_sentence_transformers_2_is_taken(copy):
    folder = copy()
    move_transformer(folder)
    loaded = read(folder)
    assert (loaded.architecture, loaded.limit.tokens, loaded.dimensions) == ("bert", 256, 64)
