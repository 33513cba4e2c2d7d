"""Static encoder (Model2Vec): a text's vector is the mean of its tokens' rows in one table. No model library."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from .encoder import TokenizedEncoder, Vectors
from .errors import IntegrityError

# Words whose tokens are remembered, and the longest of them in characters: some 10 MB.
WORDS, LONGEST = 32_768, 32


class Words(dict[str, tuple[int, ...]]):
    """A word's token ids, remembered. Tokenizing is most of the work here, and a text has few words that are new.

    Args:
        tokenizer: a tokenizer that does not truncate.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - tokenizers has no types
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, word: str) -> tuple[int, ...]:
        """Tokenize a word and remember it."""
        ids = tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)
        if len(word) <= LONGEST:
            if len(self) >= WORDS:
                self.clear()
            self[word] = ids
        return ids


class StaticEncoder(TokenizedEncoder):
    """Looks tokens up and averages them, as `model2vec.StaticModel` does, unknown tokens left out.

    The table may be int8: rows share one scale, which unit norm removes. A table follows no instruction, and a prompt's
    tokens would be averaged into every text: prompts are checked, and put nothing before a text. Texts are tokenized
    word by word where the variant's recipe says `by_word`: that this gives the same tokens.
    """

    default_batch = 1024

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        super().__init__(folder, threads)
        path = folder / self.variant.files["table"]
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise IntegrityError(f"{path}: safetensors cannot load it ({error}). Build the variant again.") from None
        if "embeddings" not in tensors:
            raise IntegrityError(f"{path}: expected a tensor 'embeddings', found {sorted(tensors)}. Build it again.")
        self.table = tensors["embeddings"]
        self.weights = tensors.get("weights")
        self.rows = tensors.get("mapping")
        unknown = self.variant.recipe.get("unknown_id")
        self.unknown = unknown if isinstance(unknown, int) else None
        self.tokenizer.no_truncation()  # done here: a word's tokens are remembered whole
        self._words = Words(self.tokenizer) if self.variant.recipe.get("by_word") is True else None

    def shorten(self, max_tokens: int) -> None:
        """As `Encoder.shorten`."""
        super().shorten(max_tokens)
        self.tokenizer.no_truncation()

    def _prefix(self, prompt: str | None) -> str:
        super()._prefix(prompt)
        return ""

    def _embed(self, rows: list[str], batch_size: int) -> tuple[Vectors, list[int]]:
        out = np.empty((len(rows), self.table.shape[1]), dtype=np.float32)
        truncated, limit = [], self.variant.max_tokens
        for at, row in enumerate(rows):
            tokens = self._tokens(row)
            if len(tokens) > limit:
                truncated.append(at)
            out[at] = self._mean(np.array(tokens[:limit], dtype=np.int64))
        return out, truncated

    def _count(self, rows: list[str]) -> list[int]:
        return [len(self._tokens(row)) for row in rows]

    def _tokens(self, row: str) -> list[int]:
        """Return all of a text's token ids."""
        if self._words is None:
            ids: list[int] = self.tokenizer.encode_batch_fast([row], add_special_tokens=False)[0].ids
            return ids
        return list(chain.from_iterable(map(self._words.__getitem__, row.split(" "))))

    def _mean(self, index: NDArray[np.int64]) -> Vectors:
        if self.unknown is not None:
            index = index[index != self.unknown]
        if not index.size:  # "" or nothing known: the table's mean row, a defined vector far from none
            return np.asarray(self.table.mean(axis=0, dtype=np.float32))
        table_rows = self.table.take(index if self.rows is None else self.rows[index], axis=0)
        if self.weights is not None:
            table_rows = table_rows * self.weights[index, None].astype(np.float32)
        # Sums of integers are exact, and need no copy of the rows in floating point.
        exact = np.int32 if table_rows.dtype == np.int8 else np.float32
        return np.asarray(table_rows.sum(axis=0, dtype=exact) / np.float32(index.size), dtype=np.float32)
