"""LiteRT (TFLite) encoder: one graph for each of a few input lengths; a text goes through the shortest that holds it.

Inputs and outputs are addressed by name. Models with a SentencePiece tokenizer need ai-edge-litert, sentencepiece and
numpy only.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ..errors import InputError, IntegrityError, one_line
from ..system_errors import retryable_error
from .added_tokens import AddedToken, AddedTokenSplitter
from .encoder import Encoder
from .rows import Embedding, Rows, Tokens, UnusableRowError
from .tokenized import EMPTY, describe_missing_row, load_tokenizer, refuse_failures
from .variant import Variant
from .vectors import Vectors

INPUTS, OUTPUT = ("input_ids", "attention_mask"), "sentence_embedding"


@dataclass(frozen=True)
class TfliteSettings:
    """What the encoder reads from a variant's recipe.

    Attributes:
        lengths: tokens that the graphs take, ascending; each has a graph of its own.
        before, after: ids of the special tokens around a text.
        added_tokens: tokens to split texts at before SentencePiece sees them.
    """

    lengths: tuple[int, ...]
    before: list[int]
    after: list[int]
    added_tokens: tuple[AddedToken, ...]

    @classmethod
    def of(cls, variant: Variant) -> "TfliteSettings":
        """Return the settings of a variant.

        Raises:
            IntegrityError: its recipe lacks one.
        """
        recipe = variant.recipe
        try:
            before, after = recipe["special_ids"]
            added_tokens = tuple(map(AddedToken.parse, recipe["added_tokens"]))
            return cls(tuple(sorted(recipe["lengths"])), before, after, added_tokens)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{variant.name}: the recipe in variant.json lacks what a tflite variant needs "
                f"({type(error).__name__} {error}). Build the variant again."
            ) from None


class Graph:
    """One file: int32 input_ids, attention_mask [1, length] -> float32 sentence_embedding [1, dimensions].

    Raises:
        IntegrityError: the file cannot be loaded, or has other inputs or outputs.
    """

    def __init__(self, path: Path, length: int, threads: int) -> None:
        self.length = length
        try:
            self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self.run = self.interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise IntegrityError(
                f"{path}: LiteRT cannot load it ({one_line(error)}). Build the variant again."
            ) from None
        inputs = {name: tuple(details["shape"]) for name, details in self.run.get_input_details().items()}
        outputs = list(self.run.get_output_details())
        if inputs != dict.fromkeys(INPUTS, (1, length)) or outputs != [OUTPUT]:
            raise IntegrityError(
                f"{path}: expected inputs {', '.join(INPUTS)} of shape (1, {length}) and an output {OUTPUT}, "
                f"found {inputs} and {outputs}. Build the variant again."
            )
        self.lock = threading.Lock()  # an interpreter serves one thread at a time

    def __call__(self, ids: list[int], pad_id: int) -> Vectors:
        """Return the vector [dimensions] of token ids, at most `length` of them."""
        row = np.full((1, self.length), pad_id, dtype=np.int32)
        mask = np.zeros((1, self.length), dtype=np.int32)
        row[0, : len(ids)] = ids
        mask[0, : len(ids)] = 1
        with self.lock:
            return np.array(self.run(input_ids=row, attention_mask=mask)[OUTPUT][0], dtype=np.float32)


class TfliteEncoder(Encoder):
    """Runs the shortest graph that holds a text; graphs are opened when they are first needed.

    Raises:
        IntegrityError: the tokenizer cannot be loaded, or has more entries than the model's embedding has rows.
    """

    window = 32

    def __init__(self, folder: Path, threads: int | None = None, calls: int = 1) -> None:
        super().__init__(folder, threads, calls)
        self.settings = TfliteSettings.of(self.variant)
        self.lengths = self.settings.lengths
        self.special_tokens = len(self.settings.before) + len(self.settings.after)
        self.tokenizer = open_tokenizer(folder, self.variant.files, self.settings.added_tokens)
        if (size := self.tokenizer.size) > self.variant.vocabulary:
            raise IntegrityError(
                f"{folder}: the tokenizer has {size} entries, the model's embedding {self.variant.vocabulary} rows; "
                "a higher id would read past the table. List the model's own tokenizer.model in model.files."
            )
        self.graphs: dict[int, Graph] = {}
        self.graphs_lock = threading.Lock()

    def use_graph(self, length: int) -> None:
        """Send all texts through the graph of one length, which truncates longer ones; call it before encoding.

        Raises:
            InputError: the variant has no graph of that length.
        """
        if length not in self.lengths:
            raise InputError(f"length {length}: {self.variant.name} has graphs of {list(self.lengths)} tokens.")
        self.lengths = (length,)
        self.limit_tokens(length)

    def _embed(self, rows: Rows, batch_size: int) -> Embedding:
        tokens = self.tokenizer.encode(rows.texts)
        limit = self.variant.max_tokens - self.special_tokens
        vectors = [self._encode(position, self._truncate(row)) for position, row in enumerate(tokens)]
        return Embedding(np.stack(vectors), [position for position, row in enumerate(tokens) if len(row) > limit])

    def embed(self, rows: Sequence[Tokens]) -> Vectors:
        """As `Encoder.embed`; every text has a call of its own."""
        return np.stack([self._encode(position, row.ids) for position, row in enumerate(rows)])

    def _check(self, position: int, ids: list[int]) -> None:
        if not ids:
            raise UnusableRowError(position, EMPTY)
        if (highest := max(ids)) >= self.variant.vocabulary:
            token = self.tokenizer.describe(highest)
            raise UnusableRowError(position, describe_missing_row(token, highest, self.variant.vocabulary))

    def _encode(self, position: int, ids: list[int]) -> Vectors:
        self._check(position, ids)
        length = next(length for length in self.lengths if len(ids) <= length)
        return self._graph(length)(ids, self.variant.pad_id)

    def _truncate(self, tokens: list[int]) -> list[int]:
        """Return a text's own ids within the limit, special ones around them."""
        limit = self.variant.max_tokens - self.special_tokens
        kept = tokens[max(0, len(tokens) - limit) :] if self.variant.truncation_side == "left" else tokens[:limit]
        return [*self.settings.before, *kept, *self.settings.after]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [self._truncate(tokens) for tokens in self.tokenizer.encode(texts)]

    def _count(self, texts: list[str]) -> list[int]:
        return [len(tokens) + self.special_tokens for tokens in self.tokenizer.encode(texts)]

    def _graph(self, length: int) -> Graph:
        with self.graphs_lock:
            if length not in self.graphs:
                path = self.variant.locate(self.folder, f"graph_{length}")
                self.graphs[length] = Graph(path, length, self.threads * self.calls)  # calls come one by one
            return self.graphs[length]


class SentencePieceTokenizer:
    """A SentencePiece model.

    Args:
        path: its file.
        added_tokens: tokens to split texts at before it sees them.
    """

    def __init__(self, path: Path, added_tokens: Sequence[AddedToken]) -> None:
        from sentencepiece import SentencePieceProcessor

        try:
            self.model: Any = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise retryable_error(error, path) or IntegrityError(
                f"{path}: sentencepiece cannot load it ({one_line(error)}). Build the variant again."
            ) from None
        self.size = int(self.model.get_piece_size())
        self.splitter = AddedTokenSplitter(added_tokens)
        self.added = {token.id: token.content for token in added_tokens}

    def encode(self, rows: list[str]) -> list[list[int]]:
        """Return the token ids of each row, without special tokens."""
        parts = [self.splitter.split(row) for row in rows]
        pieces = iter(self.model.encode([part for row in parts for part in row if isinstance(part, str)]))
        return [
            [token for part in row for token in ([part] if isinstance(part, int) else next(pieces))] for row in parts
        ]

    def describe(self, number: int) -> str | None:
        """Return the token of an id past the pieces."""
        return self.added.get(number)


class HuggingFaceTokenizer:
    """A tokenizer.json of Hugging Face tokenizers."""

    def __init__(self, path: Path) -> None:
        self.path, self.model = path, load_tokenizer(path)
        self.size = int(self.model.get_vocab_size(with_added_tokens=False))

    def encode(self, rows: list[str]) -> list[list[int]]:
        """Return the token ids of each row, without special tokens."""
        with refuse_failures(self.path):
            return [encoding.ids for encoding in self.model.encode_batch_fast(rows, add_special_tokens=False)]

    def describe(self, number: int) -> str | None:
        """Return the token of an id."""
        token: str | None = self.model.id_to_token(number)
        return token


VariantTokenizer = SentencePieceTokenizer | HuggingFaceTokenizer


def open_tokenizer(folder: Path, files: dict[str, str], added_tokens: Sequence[AddedToken]) -> VariantTokenizer:
    """Open the tokenizer of a variant: SentencePiece where it has such a model.

    Args:
        folder: the variant's folder.
        files: role to file name; one role is "sentencepiece" or "tokenizer".
        added_tokens: tokens to split texts at before SentencePiece sees them; tokenizer.json has its own.
    """
    if "sentencepiece" in files:
        return SentencePieceTokenizer(folder / files["sentencepiece"], added_tokens)
    return HuggingFaceTokenizer(folder / files["tokenizer"])
