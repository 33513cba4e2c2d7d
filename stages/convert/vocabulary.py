"""Which of a tokenizer's tokens get a row in a static table, and the tokenizer that knows just these.

A multilingual vocabulary is larger than a small table. Tokens stay by how often the texts have them, then by their id,
which follows their rank in what the tokenizer was trained on. Characters and bytes always stay: no text loses more than
the joints of its rarer words.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

from stages.common.config.variant import StaticVocabulary
from stages.common.sources.intake import read_object

# What SentencePiece writes for a space, and tokenizers that do so without one before a text's first word.
SPACE = "\u2581"
SPACED = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
# They hand over whole texts, though no token goes past a space. Cut there, words can be remembered; in lower case, with
# a space before the first one, and one at most between two, a word has the same tokens wherever it stands.
APART = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
            {"type": "Replace", "pattern": {"Regex": " +"}, "content": SPACE},
            {"type": "Prepend", "prepend": SPACE},
        ],
    },
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"String": SPACE},
        "behavior": "MergedWithNext",
        "invert": False,
    },
}
STRIPPED = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
# One character, also within a word as WordPiece writes it, or one byte as SentencePiece does.
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
LETTER = re.compile(rf"(?:##)?.|{BYTE.pattern}", re.DOTALL)
UNUSED = re.compile(r"[\[<]unused\d+[\]>]")


@dataclass(frozen=True)
class Vocabulary:
    """A smaller tokenizer.

    Attributes:
        tokenizer: its tokenizer.json; it adds no special tokens.
        kept: the base tokenizer's id of each of its tokens, by their new ids.
        unknown: the new id of what it does not know; None if there is none.
        by_word: a text's tokens are those of the words between its spaces, each tokenized alone.
    """

    tokenizer: dict[str, Any]
    kept: list[int]
    unknown: int | None
    by_word: bool


def pruned(path: Path, settings: StaticVocabulary, texts: Sequence[str]) -> Vocabulary:
    """Return the tokenizer in a file with as many tokens as the settings allow.

    Args:
        path: the base model's tokenizer.json.
        settings: how many tokens, in which scripts.
        texts: what is to be tokenized well.

    Raises:
        InputError: a kind of tokenizer that cannot be pruned here, an unknown script, or fewer tokens than characters.
    """
    described = read_object(path)
    model = described["model"]
    if model.get("type") not in FAMILIES:
        raise InputError(f"{path}: is of type {model.get('type')}; static takes {sorted(FAMILIES)}. Leave static out.")
    special = {token["content"] for token in described["added_tokens"] if token["special"]}
    base = _ids(model)
    ids = {token: at for token, at in base.items() if token not in special and not UNUSED.fullmatch(token)}
    if _spaced(described):
        ids = {token: at for token, at in ids.items() if token == token.lower() or BYTE.fullmatch(token)}
        texts = [text.lower() for text in texts]
    ids = _written(ids, settings.scripts)
    kept = {token for token in ids if LETTER.fullmatch(token)}
    most = settings.tokens or len(ids)
    if len(kept) > most:
        raise InputError(f"static: vocabulary.tokens {most} is less than {path}'s {len(kept)} characters. Raise it.")
    needed = FAMILIES[model["type"]](described)
    for token in _ranked(path, ids, texts):
        if len(more := needed(token) - kept) <= most - len(kept):
            kept |= more
    unknown = _unknown(model)
    return _rebuilt(described, base, kept | ({unknown} & base.keys()), unknown)


def _spaced(described: Mapping[str, Any]) -> bool:
    """Return whether a tokenizer is a BPE that writes spaces as SentencePiece does."""
    return (described["model"]["type"], described["normalizer"]) == ("BPE", SPACED)


def _unknown(model: Mapping[str, Any]) -> str:
    """Return the token for what a tokenizer does not know; empty if it has none."""
    at = model.get("unk_id")
    return str(model["vocab"][at][0] if at is not None else model.get("unk_token") or "")


def _ids(model: Mapping[str, Any]) -> dict[str, int]:
    """Return token -> id."""
    vocab = model["vocab"]
    return dict(vocab) if isinstance(vocab, dict) else {token: at for at, (token, _) in enumerate(vocab)}


def _written(ids: dict[str, int], scripts: list[str] | None) -> dict[str, int]:
    """Return the tokens that are bytes, or whose letters are all of these scripts.

    A letter's script is the first word of its Unicode name: LATIN SMALL LETTER A, CJK UNIFIED IDEOGRAPH-4E16.
    """
    if scripts is None:
        return ids
    of = {letter: unicodedata.name(letter, "").partition(" ")[0] for letter in set("".join(ids)) if letter.isalpha()}
    wanted = {script.upper() for script in scripts}
    if unknown := wanted - set(of.values()):
        raise InputError(
            f"static: no token is of vocabulary.scripts {sorted(unknown)}; there are {sorted(set(of.values()))}."
        )
    return {
        token: at
        for token, at in ids.items()
        if BYTE.fullmatch(token) or {of[one] for one in token if one in of} <= wanted
    }


def _ranked(path: Path, ids: Mapping[str, int], texts: Sequence[str]) -> Iterator[str]:
    """Yield tokens, the most useful first."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    counts = Counter(chain.from_iterable(item.ids for item in encodings))
    yield from sorted(ids, key=lambda token: (-counts[ids[token]], ids[token]))


def _alone(_: Mapping[str, Any]) -> Callable[[str], set[str]]:
    """Return what a token needs where the longest known piece, or the likeliest, is taken: nothing else."""
    return lambda token: {token}


def _merged(described: Mapping[str, Any]) -> Callable[[str], set[str]]:
    """Return what a BPE token needs: what is merged on the way to it; none, if merging never gives it.

    A merge is never undone, so in any text a token comes about just as it does alone. A text whose tokens are all kept
    hence keeps its tokens.
    """
    ranks = {pair: at for at, pair in enumerate(_merges(described["model"]))}
    spaced = _spaced(described)

    def needed(token: str) -> set[str]:
        parts, found = list(token), {token}
        while len(parts) > 1:
            rank, at = min((ranks.get(pair, len(ranks)), at) for at, pair in enumerate(pairwise(parts)))
            if rank == len(ranks) or (spaced and SPACE in token[1:]):
                return set()
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            found.add(parts[at])
        return found

    return needed


def _merges(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for pair in model["merges"]:  # older files have them as one string
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        yield left, right


FAMILIES: dict[str, Callable[[Mapping[str, Any]], Callable[[str], set[str]]]] = {
    "BPE": _merged,
    "Unigram": _alone,
    "WordPiece": _alone,
}


def _rebuilt(described: dict[str, Any], base: Mapping[str, int], kept: Iterable[str], unknown: str) -> Vocabulary:
    """Return the tokenizer with its kept tokens numbered anew, in the order of their ids in the base tokenizer."""
    model = described["model"]
    tokens = sorted(kept, key=base.__getitem__)
    ids = {token: at for at, token in enumerate(tokens)}
    smaller: dict[str, Any] = {"vocab": ids}
    if model["type"] == "Unigram":
        smaller = {"vocab": [model["vocab"][base[token]] for token in tokens], "unk_id": ids.get(unknown)}
    if model["type"] == "BPE":
        pairs = _merges(model)
        smaller["merges"] = [pair for pair in pairs if all(part in ids for part in (*pair, "".join(pair)))]
    decoders = [*(described.get("decoder") or {}).get("decoders", []), STRIPPED]
    apart = APART | {"decoder": {"type": "Sequence", "decoders": decoders}}
    words = (described["normalizer"] or {}).get("type"), (described["pre_tokenizer"] or {}).get("type")
    bare = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None, "model": model | smaller}
    return Vocabulary(
        tokenizer=described | bare | (apart if _spaced(described) else {}),
        kept=[base[token] for token in tokens],
        unknown=ids.get(unknown),
        by_word=_spaced(described) or words == ("BertNormalizer", "BertPreTokenizer"),
    )
