"""The tokenizer of a LiteRT variant: SentencePiece's own file where it gives the model's ids, else tokenizer.json.

SentencePiece's file is a third of the size, and an app needs no Rust library for it. Added tokens that it does not find
by itself, such as a quoted "<bos>", go into variant.json.
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import IntegrityError
from embed_foundry.encoders.added_tokens import AddedToken
from embed_foundry.encoders.tflite import HuggingFaceTokenizer, SentencePieceTokenizer, VariantTokenizer

from stages.common.sources import hard_texts, probe_texts
from stages.common.sources.base_model.layout import find_transformer
from stages.convert.tokenizer import TOKENIZER, BaseTokenizer, SpecialIds

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECES = "tokenizer.model"
# Every added token is compared in each of these contexts.
CONTEXTS = ("{}", "a{}b", "a {} b", "  {}  ", "{}{}")


@dataclass(frozen=True)
class WrittenTokenizer:
    """The tokenizer that a variant ships with.

    Attributes:
        files: role to file name.
        tokenizer: the same, opened.
        added_tokens: tokens to split texts at before SentencePiece sees them.
    """

    files: dict[str, str]
    tokenizer: VariantTokenizer
    added_tokens: list[AddedToken] = field(default_factory=list)

    def describe(self, special: SpecialIds) -> dict[str, object]:
        """Return what the encoder reads of it from the recipe, given the model's special tokens."""
        return {"special_ids": special, "added_tokens": [token.to_json() for token in self.added_tokens]}


def write_tokenizer(base: Path, tokenizer: BaseTokenizer, work: Path) -> WrittenTokenizer:
    """Write the smallest tokenizer that gives the ids of the one that sentence-transformers runs.

    Args:
        base: the model's folder.
        tokenizer: what sentence-transformers runs.
        work: the variant's folder.

    Warns:
        UserWarning: the model's tokenizer.model gives other ids, so tokenizer.json ships.
    """
    pieces = find_transformer(base) / PIECES
    if pieces.is_file():
        (work / PIECES).write_bytes(pieces.read_bytes())
        try:
            return _open_pieces(work / PIECES, tokenizer.open())
        except IntegrityError as error:
            (work / PIECES).unlink()
            warnings.warn(f"{error} {TOKENIZER} ships instead.", stacklevel=2)
    files = tokenizer.copy(work)
    return WrittenTokenizer(files, HuggingFaceTokenizer(work / TOKENIZER))


def _open_pieces(path: Path, reference: "Tokenizer") -> WrittenTokenizer:
    """Return SentencePiece's tokenizer with the added tokens that it needs.

    Raises:
        IntegrityError: the file is none of SentencePiece, or a text has other ids; the message names it.
    """
    added_tokens = _list_added_tokens(path, reference)
    tokenizer = SentencePieceTokenizer(path, added_tokens)
    texts = [*probe_texts.read_texts(), *hard_texts.read_texts(), *_quote(added_tokens)]
    for text, ids, expected in zip(texts, tokenizer.encode(texts), _encode(reference, texts), strict=True):
        if ids != expected:
            raise IntegrityError(f"{path.name} gives {text!r} other token ids than sentence-transformers does.")
    return WrittenTokenizer({"sentencepiece": path.name}, tokenizer, added_tokens)


def _list_added_tokens(path: Path, reference: "Tokenizer") -> list[AddedToken]:
    """Return the model's added tokens that SentencePiece does not find by itself, in the order of their ids."""
    tokens = [
        AddedToken(token.content, number, token.single_word, token.lstrip, token.rstrip, token.normalized)
        for number, token in sorted(reference.get_added_tokens_decoder().items())
    ]
    texts = _quote(tokens)
    alone = SentencePieceTokenizer(path, []).encode(texts)
    equal = [ids == expected for ids, expected in zip(alone, _encode(reference, texts), strict=True)]
    step = len(CONTEXTS)
    return [token for number, token in enumerate(tokens) if not all(equal[number * step : (number + 1) * step])]


def _quote(tokens: list[AddedToken]) -> list[str]:
    return [context.replace("{}", token.content) for token in tokens for context in CONTEXTS]


def _encode(reference: "Tokenizer", texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in reference.encode_batch_fast(texts, add_special_tokens=False)]
