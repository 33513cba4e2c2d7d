"""Which of a tokenizer's tokens get a row in a static table, and the tokenizer that has only these.

A multilingual vocabulary is larger than a small table. Tokens are kept by their count in the texts, then by their id,
which follows their rank in what the tokenizer was trained on. Characters and bytes are always kept, so every text can
still be written: rarer words only fall into more pieces.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.config.variant import StaticVocabulary
from stages.convert.tokenizer_json import BYTE, SPACE, TokenizerJson

# One character, also within a word as WordPiece writes it, or one byte as SentencePiece does.
CHARACTER = re.compile(rf"(?:##)?.|{BYTE.pattern}", re.DOTALL)
UNUSED = re.compile(r"[\[<]unused\d+[\]>]")


@dataclass(frozen=True)
class Vocabulary:
    """A smaller tokenizer.

    Attributes:
        tokenizer: the text of its tokenizer.json; it adds no special tokens.
        kept: the base tokenizer's id of each of its tokens, by their new ids.
        unknown: the new id of what it does not know; None if there is none.
        by_word: a text's tokens are those of the words between its spaces, each tokenized alone.
    """

    tokenizer: str
    kept: list[int]
    unknown: int | None
    by_word: bool


def prune_vocabulary(path: Path, settings: StaticVocabulary, texts: Sequence[str]) -> Vocabulary:
    """Return the tokenizer in a file with as many tokens as the settings allow.

    Args:
        path: the base model's tokenizer.json.
        settings: how many tokens, in which scripts.
        texts: texts whose tokens are kept first.

    Raises:
        InputError: a tokenizer that cannot be pruned here, an unknown script, or fewer tokens than characters.
    """
    tokenizer = TokenizerJson.load(path)
    if tokenizer.algorithm not in REQUIREMENTS:
        raise InputError(
            f"{path}: is of type {tokenizer.algorithm}; static takes {sorted(REQUIREMENTS)}. Leave static out."
        )
    ids = _select_by_script(_select_usable(tokenizer), settings.scripts)
    if tokenizer.writes_spaces:
        texts = [text.lower() for text in texts]
    kept = {token for token in ids if CHARACTER.fullmatch(token)}
    limit = settings.tokens or len(ids)
    if len(kept) > limit:
        raise InputError(f"static: vocabulary.tokens {limit} is less than {path}'s {len(kept)} characters. Raise it.")
    find_required = REQUIREMENTS[tokenizer.algorithm](tokenizer)
    for token in _rank_tokens(path, ids, texts):
        missing = find_required(token) - kept
        if len(missing) <= limit - len(kept):
            kept |= missing
    unknown = tokenizer.unknown_token
    tokens = sorted(kept | ({unknown} & tokenizer.ids.keys()), key=tokenizer.ids.__getitem__)
    return Vocabulary(
        tokenizer=tokenizer.keep(tokens),
        kept=[tokenizer.ids[token] for token in tokens],
        unknown=tokens.index(unknown) if unknown in tokens else None,
        by_word=tokenizer.splits_at_spaces,
    )


def _select_usable(tokenizer: TokenizerJson) -> dict[str, int]:
    """Return token -> id of the tokens that a text of the pruned tokenizer can have."""
    special = tokenizer.special_tokens
    ids = {token: number for token, number in tokenizer.ids.items() if token not in special}
    ids = {token: number for token, number in ids.items() if not UNUSED.fullmatch(token)}
    if tokenizer.writes_spaces:  # and then pruned to lower case
        ids = {token: number for token, number in ids.items() if token == token.lower() or BYTE.fullmatch(token)}
    return ids


def _select_by_script(ids: dict[str, int], scripts: list[str] | None) -> dict[str, int]:
    """Return the tokens that are bytes, or whose letters are all of these scripts.

    A letter's script is the first word of its Unicode name: LATIN SMALL LETTER A, CJK UNIFIED IDEOGRAPH-4E16.
    """
    if scripts is None:
        return ids
    letters = {letter for letter in set("".join(ids)) if letter.isalpha()}
    script_of = {letter: unicodedata.name(letter, "").partition(" ")[0] for letter in letters}
    selected = {script.upper() for script in scripts}
    if unknown := selected - set(script_of.values()):
        raise InputError(
            f"static: no token is of vocabulary.scripts {sorted(unknown)}; there are {sorted(set(script_of.values()))}."
        )
    return {
        token: number
        for token, number in ids.items()
        if BYTE.fullmatch(token) or {script_of[letter] for letter in token if letter in script_of} <= selected
    }


def _rank_tokens(path: Path, ids: Mapping[str, int], texts: Sequence[str]) -> Iterator[str]:
    """Yield tokens, the most useful first."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    counts = Counter(chain.from_iterable(encoding.ids for encoding in encodings))
    yield from sorted(ids, key=lambda token: (-counts[ids[token]], ids[token]))


def _require_token_alone(_: TokenizerJson) -> Callable[[str], set[str]]:
    """Return the function for tokenizers that take the longest piece, or the likeliest: a token needs no other."""
    return lambda token: {token}


def _require_merged_parts(tokenizer: TokenizerJson) -> Callable[[str], set[str]]:
    """Return the function for a BPE: a token needs what is merged on the way to it. Empty if no merging gives it.

    A merge is never undone, so a token is merged in any text just as it is alone. A text whose tokens are all kept
    therefore keeps its tokens.
    """
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    unmergeable, writes_spaces = len(ranks), tokenizer.writes_spaces

    def find_required(token: str) -> set[str]:
        parts, required = list(token), {token}
        while len(parts) > 1:
            rank, index = min((ranks.get(pair, unmergeable), index) for index, pair in enumerate(pairwise(parts)))
            if rank == unmergeable or (writes_spaces and SPACE in token[1:]):
                return set()
            parts[index : index + 2] = [parts[index] + parts[index + 1]]
            required.add(parts[index])
        return required

    return find_required


# A tokenizer's algorithm -> what makes the function from a token to all that must be kept with it, itself included.
REQUIREMENTS: Mapping[str, Callable[[TokenizerJson], Callable[[str], set[str]]]] = {
    "BPE": _require_merged_parts,
    "Unigram": _require_token_alone,
    "WordPiece": _require_token_alone,
}
