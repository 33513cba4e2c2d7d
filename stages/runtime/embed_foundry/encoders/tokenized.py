"""Encoders that tokenize texts themselves and pass token ids to a library."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import IntegrityError, one_line
from ..system_errors import retryable_error
from .encoder import Encoder
from .rows import Embedding, Rows, Tokens, UnusableRowError
from .vectors import Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The most tokens of a call that has more than one text, padding included. It bounds memory: attention scores take
# length x tokens x heads floats, 2 GB for four heads and texts of 8192 tokens. Larger calls are no faster on a CPU.
CALL_TOKENS = 16384
EMPTY = "has no token, so the model has no vector for it. Leave it out."


class TokenizedEncoder(Encoder):
    """An encoder whose texts go through the variant's tokenizer.json (Hugging Face tokenizers).

    The tokenizer never truncates: a change of its settings is refused while another thread uses it ("Already
    borrowed"), and what versions before 0.23 report as `overflowing` is not what later ones do.
    """

    def __init__(self, folder: Path, threads: int | None = None, calls: int = 1) -> None:
        super().__init__(folder, threads, calls)
        self.tokenizer_path = self.variant.locate(folder, "tokenizer")
        self.tokenizer = load_tokenizer(self.tokenizer_path)
        with refuse_failures(self.tokenizer_path):
            special = self.tokenizer.encode("a").special_tokens_mask
        self.before = special.index(0) if 0 in special else len(special)
        self.after = len(special) - self.before - special.count(0)

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return each text's token ids, special tokens included, not truncated."""
        with refuse_failures(self.tokenizer_path):
            return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]

    def _truncate(self, ids: list[int]) -> list[int]:
        """Return ids within the limit; special tokens stay."""
        limit = self.variant.max_tokens
        if len(ids) <= limit:
            return ids
        stop = len(ids) - self.after
        kept = max(0, limit - self.before - self.after)
        if self.variant.truncation_side == "left":
            return ids[: self.before] + ids[stop - kept :]
        return ids[: self.before + kept] + ids[stop:]

    def _tokenize_rows(self, rows: Rows) -> list[Tokens]:
        pairs = zip(rows.texts, self._tokenize(rows.texts), strict=True)
        return [Tokens(text, rows.prompt, self._truncate(ids), len(ids)) for text, ids in pairs]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [self._truncate(ids) for ids in self._tokenize(texts)]

    def _count(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self._tokenize(texts)]


class GraphEncoder(TokenizedEncoder):
    """An encoder that runs one graph from ids and mask to vectors."""

    window = 32

    def __init__(self, folder: Path, threads: int | None = None, calls: int = 1) -> None:
        super().__init__(folder, threads, calls)
        added = max(self.tokenizer.get_added_tokens_decoder(), default=-1)
        highest = max(self.tokenizer.get_vocab_size(with_added_tokens=False) - 1, added)
        # Texts are checked only where the tokenizer has ids that the model has no row for.
        self.rows = self.variant.vocabulary if 0 < self.variant.vocabulary <= highest else None

    @abstractmethod
    def _infer(self, feeds: dict[str, NDArray[np.int64]]) -> Vectors:
        """Return the vectors [b, dimensions] of a call's inputs by name.

        They are input_ids, attention_mask, token_type_ids, each [b, s], and prompt_length [b].
        """

    def _embed(self, rows: Rows, batch_size: int) -> Embedding:
        tokens = self._tokenize_rows(rows)
        truncated = [position for position, row in enumerate(tokens) if row.truncated]
        out = np.empty((len(rows), self.variant.dimensions), dtype=np.float32)
        for positions in plan_calls([len(row.ids) for row in tokens], batch_size, self.variant.batching):
            vectors = self.embed([tokens[position] for position in positions])
            if vectors.shape != (len(positions), self.variant.dimensions):
                return Embedding(vectors, truncated)  # `_vectors` refuses the shape
            out[positions] = vectors
        return Embedding(out, truncated)

    def embed(self, rows: Sequence[Tokens]) -> Vectors:
        """As `Encoder.embed`."""
        return self._infer(self._feeds(rows))

    def _tokenize_rows(self, rows: Rows) -> list[Tokens]:
        tokens = super()._tokenize_rows(rows)
        self._check([row.ids for row in tokens])
        return tokens

    def _check(self, ids: list[list[int]]) -> None:
        for position, row in enumerate(ids):
            if not row:
                raise UnusableRowError(position, EMPTY)
            if self.rows and max(row) >= self.rows:
                missing = next(number for number in row if number >= self.rows)
                token = self.tokenizer.id_to_token(missing)
                raise UnusableRowError(position, describe_missing_row(token, missing, self.rows))

    def _count_left_out(self, prompt: str) -> int:
        """Return how many tokens of a prompt pooling leaves out, as sentence-transformers counts them.

        They are the prompt's own and the special tokens in front, as in Transformer._get_prompt_length.
        """
        if not prompt or self.variant.pools_prompt:
            return 0
        encoding = self.tokenizer.encode(prompt)
        return len(encoding.ids) - encoding.special_tokens_mask[-1]

    def _feeds(self, rows: Sequence[Tokens]) -> dict[str, NDArray[np.int64]]:
        shape = (len(rows), max(len(row.ids) for row in rows))
        tokens = np.full(shape, self.variant.pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for position, row in enumerate(rows):
            tokens[position, : len(row.ids)] = row.ids
            mask[position, : len(row.ids)] = 1
        left_out = {prompt: self._count_left_out(prompt) for prompt in {row.prompt for row in rows}}
        return {
            "input_ids": tokens,
            "attention_mask": mask,
            "token_type_ids": np.zeros(shape, dtype=np.int64),
            "prompt_length": np.array([left_out[row.prompt] for row in rows], dtype=np.int64),
        }


@contextmanager
def refuse_failures(path: Path) -> Iterator[None]:
    """Turn what the library of tokenizers raises of a file into an error that names it.

    Raises:
        IntegrityError: the library failed.
        RetryableError: memory is out.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # it raises nothing narrower than Exception, and a panic of Rust's is not even that
        refused = retryable_error(error, path) if isinstance(error, Exception) else None
        raise refused or IntegrityError(
            f"{path}: tokenizers cannot use it ({one_line(error)}). Build the variant again."
        ) from None


def load_tokenizer(path: Path) -> "Tokenizer":
    """Return the tokenizer in a tokenizer.json; it neither pads nor truncates.

    Raises:
        IntegrityError: tokenizers cannot load it.
    """
    from tokenizers import Tokenizer

    # The Rust tokenizer forks its own pool; beside a pinned model pool it only adds noise.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with refuse_failures(path):
        tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def describe_missing_row(token: str | None, number: int, rows: int) -> str:
    """Return what is wrong with a text that holds a token past the model's embedding."""
    return f"holds the token {token!r} (id {number}), and the model has rows for {rows}. Take it out of the text."


def plan_calls(lengths: Sequence[int], batch_size: int, batching: str) -> Iterator[list[int]]:
    """Yield the positions of the texts of each call of a library, shortest texts first.

    Padding and neighbours change the last bit of an activation, and rounding to integers amplifies that: a vector then
    depends on its batch, by up to 0.05 (L2) for 8-bit EmbeddingGemma, and by 0.2 with one scale for a whole call. So
    only exact variants pad; the others batch texts of equal length, or run each text alone.

    Args:
        lengths: tokens of each text.
        batch_size: texts of a call, at most; fewer where they would be more than `CALL_TOKENS` tokens.
        batching: which texts may share a call, as in the variant's record.
    """
    size = 1 if batching == "single" else batch_size
    call: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[position]  # the longest of the call so far
        unequal = batching == "equal_length" and call and length != lengths[call[0]]
        if call and (unequal or len(call) == size or (len(call) + 1) * length > CALL_TOKENS):
            yield call
            call = []
        call.append(position)
    if call:
        yield call
