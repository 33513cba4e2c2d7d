"""Smaller tokenizers: kept tokens come about as before, and every text of any script can still be written."""

import json

import pytest
from embed_foundry import InputError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from stages.common.config.variant import StaticVocabulary
from stages.common.sources import probe_texts
from stages.convert.vocabulary import Vocabulary, prune_vocabulary

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = probe_texts.read_texts()[:10]
ODD = ["", " ", "a  b   c ", "tab\tand\n\nlines", "<bos> [UNK] <0x41>", "x" * 300, "\x00\x1c\u2028"]
ODD += ["\u16a0\u16a2 \U00013000\U00013080", "\U0001f469\u200d\U0001f467 e\u0301"]


def settings(tokens: int | None = None, scripts: list[str] | None = None) -> StaticVocabulary:
    return StaticVocabulary(tokens=tokens, scripts=scripts)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """Return a tokenizer.json as EmbeddingGemma's: BPE over texts as a whole, with bytes for what it does not know."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=2600, special_tokens=[*SPECIAL, *BYTES], show_progress=False)
    tokenizer.train_from_iterator(probe_texts.read_texts(), trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in SPECIAL]
    content["pre_tokenizer"] = json.loads(pre_tokenizers.Split(" ", "merged_with_previous").__getstate__())
    path = tmp_path_factory.mktemp("gemma") / "tokenizer.json"
    path.write_text(json.dumps(content))
    return path


def open_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    return Tokenizer.from_str(vocabulary.tokenizer)


def tokenize(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def normalize(text: str) -> str:
    """Return a text in lower case with one space before each word: a table ignores all else."""
    return "".join(f" {word}" for word in text.lower().split(" ") if word)


@pytest.mark.parametrize("tokens", [1200, 1800, None])
def test_a_pruned_bpe_writes_every_text_and_gives_kept_tokens_as_before(gemma, tokens):
    base = Tokenizer.from_file(str(gemma))
    vocabulary = prune_vocabulary(gemma, settings(tokens), TEXTS)
    smaller, kept = open_tokenizer(vocabulary), set(vocabulary.kept)
    assert len(kept) <= (tokens or base.get_vocab_size()) + 1  # and <unk>
    assert all(token == token.lower() for token in smaller.get_vocab().keys() - BYTES), "others never come about"
    assert vocabulary.kept == prune_vocabulary(gemma, settings(tokens), [text.upper() for text in TEXTS]).kept
    same = 0
    for text in [*probe_texts.read_texts(), *ODD]:
        ours, theirs = tokenize(smaller, text), tokenize(base, normalize(text))
        assert smaller.decode(ours, skip_special_tokens=False) == normalize(text)[1:]
        if kept.issuperset(theirs) and not set(theirs) & set(range(4)):
            assert [vocabulary.kept[number] for number in ours] == theirs
            same += 1
    assert same >= 10


def test_words_can_be_tokenized_one_by_one_where_by_word_says_so(gemma, base):
    for path in (gemma, base / "tokenizer.json"):
        vocabulary = prune_vocabulary(path, settings(), [])
        assert vocabulary.by_word
        smaller = open_tokenizer(vocabulary)
        for text in [*probe_texts.read_texts(), *ODD]:
            assert tokenize(smaller, text) == [number for word in text.split(" ") for number in tokenize(smaller, word)]


def test_tokens_of_the_texts_are_kept_first(base):
    path = base / "tokenizer.json"
    rare = "the " * 200 + "Chlamydia brisbane necklace"  # the file truncates at 128 tokens
    without, with_text = (prune_vocabulary(path, settings(4000), texts) for texts in ([], [rare]))
    assert len(without.kept) == len(with_text.kept)
    assert len(tokenize(open_tokenizer(with_text), rare)) < len(tokenize(open_tokenizer(without), rare))
    assert open_tokenizer(with_text).encode("[CLS] [unused1]").tokens[0] == "["
    assert "[unused1]" not in open_tokenizer(with_text).get_vocab()
    assert with_text.unknown == open_tokenizer(with_text).token_to_id("[UNK]")


@pytest.mark.parametrize(("script", "other"), [("Latin", "п"), ("Cyrillic", "s")])
def test_scripts_leave_out_the_others_but_not_their_bytes(gemma, script, other):
    vocabulary = prune_vocabulary(gemma, settings(scripts=[script]), [])
    smaller = open_tokenizer(vocabulary)
    assert len(vocabulary.kept) < len(prune_vocabulary(gemma, settings(), []).kept)
    for text in ("straße 42!", "привет, 世界"):
        assert smaller.decode(tokenize(smaller, text)) == text
    assert other not in smaller.get_vocab()


def test_a_unigram_tokenizer_keeps_its_likeliest_pieces(tmp_path):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(probe_texts.read_texts(), trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = prune_vocabulary(tmp_path / "tokenizer.json", settings(900), probe_texts.read_texts())
    smaller = open_tokenizer(vocabulary)
    assert len(vocabulary.kept) <= 901
    assert vocabulary.unknown == smaller.token_to_id("<unk>")
    assert not vocabulary.by_word
    for text in probe_texts.read_texts():
        assert vocabulary.unknown not in tokenize(smaller, text)
        assert smaller.decode(tokenize(smaller, text)).strip() == text.strip()
    assert vocabulary.unknown in tokenize(smaller, "\U00013000")


def test_an_error_says_what_cannot_be_pruned(base, tmp_path):
    path = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(path))
    with pytest.raises(InputError, match=r"type WordLevel; static takes .*'BPE', 'Unigram', 'WordPiece'"):
        prune_vocabulary(path, settings(), [])
    with pytest.raises(InputError, match=r"vocabulary.tokens 50 is less than .* characters"):
        prune_vocabulary(base / "tokenizer.json", settings(50), [])
    with pytest.raises(ValueError, match="KLINGON"):
        settings(scripts=["Klingon"])
