"""Smaller tokenizers: what is kept is tokenized as before, everything else still is, whatever the script."""

import json

import pytest
from embed_foundry import InputError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from stages.common.config.variant import StaticVocabulary
from stages.common.sources import probe_texts
from stages.convert import vocabulary

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
BYTES = [f"<0x{at:02X}>" for at in range(256)]
SEEN = probe_texts.texts()[:10]
ODD = ["", " ", "a  b   c ", "tab\tand\n\nlines", "<bos> [UNK] <0x41>", "x" * 300, "\x00\x1c\u2028"]
ODD += ["\u16a0\u16a2 \U00013000\U00013080", "\U0001f469\u200d\U0001f467 e\u0301"]


def some(tokens: int | None = None, scripts: list[str] | None = None) -> StaticVocabulary:
    return StaticVocabulary(tokens=tokens, scripts=scripts)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """Return a tokenizer.json as EmbeddingGemma's: BPE over texts as a whole, with bytes for what it does not know."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=2600, special_tokens=[*SPECIAL, *BYTES], show_progress=False)
    tokenizer.train_from_iterator(probe_texts.texts(), trainer)
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if token["content"] in SPECIAL]
    described["pre_tokenizer"] = json.loads(pre_tokenizers.Split(" ", "merged_with_previous").__getstate__())
    path = tmp_path_factory.mktemp("gemma") / "tokenizer.json"
    path.write_text(json.dumps(described))
    return path


def opened(found: vocabulary.Vocabulary) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(found.tokenizer))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def spaced(text: str) -> str:
    """Return a text in lower case with one space before each word, which is all that a table is to tell."""
    return "".join(f" {word}" for word in text.lower().split(" ") if word)


@pytest.mark.parametrize("tokens", [1200, 1800, None])
def test_a_pruned_bpe_writes_every_text_and_keeps_the_tokens_of_what_it_keeps(gemma, tokens):
    base = Tokenizer.from_file(str(gemma))
    found = vocabulary.pruned(gemma, some(tokens), SEEN)
    smaller, kept = opened(found), set(found.kept)
    assert len(kept) <= (tokens or base.get_vocab_size()) + 1  # and <unk>
    assert all(token == token.lower() for token in smaller.get_vocab().keys() - BYTES), "others never come about"
    assert found.kept == vocabulary.pruned(gemma, some(tokens), [text.upper() for text in SEEN]).kept
    same = 0
    for text in [*probe_texts.texts(), *ODD]:
        ours, theirs = ids(smaller, text), ids(base, spaced(text))
        assert smaller.decode(ours, skip_special_tokens=False) == spaced(text)[1:]
        if kept.issuperset(theirs) and not set(theirs) & set(range(4)):
            assert [found.kept[at] for at in ours] == theirs
            same += 1
    assert same >= 10


def test_words_can_be_tokenized_one_by_one_where_it_says_so(gemma, base):
    for path in (gemma, base / "tokenizer.json"):
        found = vocabulary.pruned(path, some(), [])
        assert found.by_word
        smaller = opened(found)
        for text in [*probe_texts.texts(), *ODD]:
            assert ids(smaller, text) == [at for word in text.split(" ") for at in ids(smaller, word)]


def test_what_the_texts_have_comes_first(base):
    path = base / "tokenizer.json"
    rare = "the " * 200 + "Chlamydia brisbane necklace"  # the file truncates at 128 tokens
    few, more = (vocabulary.pruned(path, some(4000), seen) for seen in ([], [rare]))
    assert len(few.kept) == len(more.kept)
    assert len(ids(opened(more), rare)) < len(ids(opened(few), rare))
    assert opened(more).encode("[CLS] [unused1]").tokens[0] == "["
    assert "[unused1]" not in opened(more).get_vocab()
    assert more.unknown == opened(more).token_to_id("[UNK]")


@pytest.mark.parametrize(("script", "other"), [("Latin", "п"), ("Cyrillic", "s")])
def test_scripts_leave_out_the_others_but_not_their_bytes(gemma, script, other):
    found = vocabulary.pruned(gemma, some(scripts=[script]), [])
    smaller = opened(found)
    assert len(found.kept) < len(vocabulary.pruned(gemma, some(), []).kept)
    for text in ("straße 42!", "привет, 世界"):
        assert smaller.decode(ids(smaller, text)) == text
    assert other not in smaller.get_vocab()


def test_a_unigram_tokenizer_keeps_its_likeliest_pieces(tmp_path):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(probe_texts.texts(), trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = vocabulary.pruned(tmp_path / "tokenizer.json", some(900), probe_texts.texts())
    smaller = opened(found)
    assert len(found.kept) <= 901
    assert found.unknown == smaller.token_to_id("<unk>")
    assert not found.by_word
    for text in probe_texts.texts():
        assert found.unknown not in ids(smaller, text)
        assert smaller.decode(ids(smaller, text)).strip() == text.strip()
    assert found.unknown in ids(smaller, "\U00013000")


def test_what_cannot_be_pruned_is_said(base, tmp_path):
    path = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(path))
    with pytest.raises(InputError, match=r"type WordLevel; static takes .*'BPE', 'Unigram', 'WordPiece'"):
        vocabulary.pruned(path, some(), [])
    with pytest.raises(InputError, match=r"vocabulary.tokens 50 is less than .* characters"):
        vocabulary.pruned(base / "tokenizer.json", some(50), [])
    with pytest.raises(InputError, match="KLINGON"):
        vocabulary.pruned(base / "tokenizer.json", some(scripts=["Klingon"]), [])
