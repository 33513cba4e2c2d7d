"""Static encoder (Model2Vec): a text's vector is the mean of its tokens' rows in one table. No model library."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..errors import IntegrityError, one_line
from ..system_errors import retryable_error
from .rows import Embedding, Rows, Tokens
from .tokenized import TokenizedEncoder, refuse_failures
from .variant import Variant
from .vectors import Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# How many words a cache holds, and how long a cached word may be, in characters: about 10 MB.
CACHED_WORDS, LONGEST_WORD = 32_768, 32


@dataclass(frozen=True)
class StaticSettings:
    """What the encoder reads from a variant's recipe.

    Attributes:
        unknown_id: id of the token that stands for unknown text and is left out of the mean; None if there is none.
        by_word: tokenizing word by word gives the same tokens as the text as a whole.
    """

    unknown_id: int | None
    by_word: bool

    @classmethod
    def of(cls, variant: Variant) -> "StaticSettings":
        """Return the settings of a variant; a recipe may name neither."""
        unknown_id = variant.recipe.get("unknown_id")
        return cls(unknown_id if isinstance(unknown_id, int) else None, variant.recipe.get("by_word") is True)


class TokenCache(dict[str, tuple[int, ...]]):
    """Words' token ids, computed once. Tokenizing is most of this encoder's work, and few words of a text are new.

    Args:
        tokenizer: a tokenizer that does not truncate.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, word: str) -> tuple[int, ...]:
        """Tokenize a word and keep its ids; a full cache starts again."""
        ids = tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)
        if len(word) <= LONGEST_WORD:
            if len(self) >= CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids


class StaticEncoder(TokenizedEncoder):
    """Looks tokens up and averages them, as `model2vec.StaticModel` does, without unknown tokens.

    The table may be int8: all rows share one scale, which unit norm removes. A table follows no instruction, and the
    tokens of a prompt would be averaged into every text: prompts are checked, but not added to a text. Texts are
    tokenized word by word where the variant's recipe says `by_word`.
    """

    default_batch = 1024

    def __init__(self, folder: Path, threads: int | None = None, calls: int = 1) -> None:
        super().__init__(folder, threads, calls)
        path = self.variant.locate(folder, "table")
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise retryable_error(error, path) or IntegrityError(
                f"{path}: safetensors cannot load it ({one_line(error)}). Build the variant again."
            ) from None
        if "embeddings" not in tensors:
            raise IntegrityError(f"{path}: expected a tensor 'embeddings', found {sorted(tensors)}. Build it again.")
        self.table = tensors["embeddings"]
        self.weights = tensors.get("weights")
        self.mapping = tensors.get("mapping")  # token id -> row of the table; None where they are the same
        settings = StaticSettings.of(self.variant)
        self.unknown_id = settings.unknown_id
        self._cache = TokenCache(self.tokenizer) if settings.by_word else None

    def _prefix(self, prompt: str | None) -> str:
        super()._prefix(prompt)
        return ""

    def _embed(self, rows: Rows, batch_size: int) -> Embedding:
        tokens = self._tokenize_rows(rows)
        truncated = [position for position, row in enumerate(tokens) if row.truncated]
        known = [self._known(row) for row in tokens]
        unknown = [position for position, ids in enumerate(known) if not ids.size]
        return Embedding(np.stack([self._mean(ids) for ids in known]), truncated, unknown)

    def embed(self, rows: Sequence[Tokens]) -> Vectors:
        """As `Encoder.embed`."""
        return np.stack([self._mean(self._known(row)) for row in rows])

    def is_unknown(self, row: Tokens) -> bool:
        """As `Encoder.is_unknown`."""
        return not self._known(row).size

    def _known(self, row: Tokens) -> NDArray[np.int64]:
        """Return a text's token ids without those that stand for unknown text."""
        ids = np.array(row.ids, dtype=np.int64)
        return ids if self.unknown_id is None else ids[ids != self.unknown_id]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        with refuse_failures(self.tokenizer_path):
            return [self._tokens(text) for text in texts]

    def _tokens(self, text: str) -> list[int]:
        """Return all token ids of a text; a table's tokenizer adds no special ones."""
        if self._cache is None:
            ids: list[int] = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
            return ids
        return list(chain.from_iterable(map(self._cache.__getitem__, text.split(" "))))

    def _truncate(self, ids: list[int]) -> list[int]:
        limit = self.variant.max_tokens
        return ids[-limit:] if self.variant.truncation_side == "left" else ids[:limit]

    def _mean(self, ids: NDArray[np.int64]) -> Vectors:
        """Return the mean row [dimensions] of known token ids [n], not normalised."""
        if not ids.size:  # "" or only unknown tokens: the table's mean row, which is far from no text's
            return np.asarray(self.table.mean(axis=0, dtype=np.float32))
        rows = self.table.take(ids if self.mapping is None else self.mapping[ids], axis=0)
        if self.weights is not None:
            rows = rows * self.weights[ids, None].astype(np.float32)
        # Sums of integers are exact, and need no copy of the rows in floating point.
        exact = np.int32 if rows.dtype == np.int8 else np.float32
        return np.asarray(rows.sum(axis=0, dtype=exact) / np.float32(ids.size), dtype=np.float32)
