"""What all encoders share: prompts, tokens, truncation, batches, Matryoshka dimensions, unit norm."""

import importlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .cpus import available_cpus
from .errors import InputError, IntegrityError
from .kinds import KINDS
from .variant import Variant

Vectors = NDArray[np.float32]


class TruncationWarning(UserWarning):
    """Some inputs were longer than the variant's limit and lost their end."""


class Encoder(ABC):
    """Encodes texts with one variant. Subclasses implement `_embed` and `_count`; everything a caller sees is here.

    Args:
        folder: a variant folder (variant.json beside its files).
        threads: CPU threads to use; None means one per CPU that this process may use, within its container's quota.
    """

    # Texts per call of the underlying library, unless the caller sets a batch size.
    default_batch: ClassVar[int] = 32
    # Batches passed to `_embed` at once; more than one where it sorts them by tokens, which beats characters.
    window: int = 1
    # Input lengths, in tokens, that have a graph of their own; empty where one graph takes any length.
    lengths: tuple[int, ...] = ()

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder = folder
        self.variant = Variant.load(folder)
        self.threads = threads or available_cpus()

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        batch_size: int | None = None,
    ) -> Vectors:
        """Return one unit-norm float32 vector a text, in the order of the texts: shape [len(texts), dimensions].

        Args:
            texts: the inputs; an empty string is allowed and has a finite vector.
            prompt: a key of the variant's prompts ("query", "document", …); None adds no prompt.
            dimensions: truncate vectors to this length and renormalise (Matryoshka); None keeps all.
            batch_size: texts per call of the underlying library; texts are batched by length.

        Raises:
            InputError: a text is not a string or holds a lone surrogate; unknown prompt; dimensions or batch size
                out of range.
            IntegrityError: the library returned a wrong shape, a non-finite or a zero vector.

        Warns:
            TruncationWarning: texts longer than the variant's `max_tokens` were truncated.
        """
        width = self._width(dimensions)
        rows = self._rows(texts, prompt)
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size {batch_size} is out of range: at least 1.")
        if not rows:
            return np.zeros((0, width), dtype=np.float32)
        return truncate(self._vectors(rows, batch_size or self.default_batch), width)

    def limit_tokens(self, max_tokens: int) -> None:
        """Truncate texts to fewer tokens than the variant takes; call it before threads share the encoder.

        Raises:
            InputError: more tokens than the variant takes, or none.
        """
        if not 0 < max_tokens <= self.variant.max_tokens:
            raise InputError(f"max_tokens {max_tokens} is out of range: 1 to {self.variant.max_tokens}.")
        self.variant = replace(self.variant, max_tokens=max_tokens)

    def count_tokens(self, texts: Sequence[str], *, prompt: str | None = None) -> list[int]:
        """Return each text's length in tokens before truncation, prompt and special tokens included."""
        rows = self._rows(texts, prompt)
        return self._count(rows) if rows else []

    def _vectors(self, rows: list[str], batch_size: int) -> Vectors:
        """Return the vectors of all rows, embedded in order of length so that little is computed on padding."""
        out = np.empty((len(rows), self.variant.dimensions), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda position: (len(rows[position]), position))
        truncated: list[int] = []
        step = batch_size * self.window
        for start in range(0, len(order), step):
            positions = order[start : start + step]
            vectors, truncated_rows = self._embed([rows[position] for position in positions], batch_size)
            if vectors.shape != (len(positions), self.variant.dimensions):
                raise IntegrityError(
                    f"{self.folder}: expected vectors of shape {(len(positions), self.variant.dimensions)}, "
                    f"got {vectors.shape}. Build the variant again."
                )
            out[positions] = vectors
            truncated += [positions[row] for row in truncated_rows]
        if truncated:
            warnings.warn(
                f"{len(truncated)} of {len(rows)} texts exceed {self.variant.max_tokens} tokens and were truncated "
                f"(first: text {min(truncated)}). Split them into shorter passages.",
                TruncationWarning,
                stacklevel=3,
            )
        return out

    def _calls(self, lengths: list[int], batch_size: int) -> Iterator[list[int]]:
        """Yield the positions of the texts of each call of the library, as the variant's `batching` allows.

        Padding and neighbours change the last bit of an activation, and rounding to integers amplifies that: a vector
        then depends on its batch, by up to 0.05 (L2) for 8-bit EmbeddingGemma, and by 0.2 with one scale for a whole
        call. So only exact variants pad; the others batch texts of equal length, or run each text alone.
        """
        size = 1 if self.variant.batching == "single" else batch_size
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        runs = groupby(order, key=lengths.__getitem__) if self.variant.batching == "equal_length" else [(0, order)]
        for _, run in runs:
            positions = list(run)
            for start in range(0, len(positions), size):
                yield positions[start : start + size]

    @abstractmethod
    def _embed(self, rows: list[str], batch_size: int) -> tuple[Vectors, list[int]]:
        """Return raw vectors [len(rows), dimensions] and the positions of rows that were truncated."""

    @abstractmethod
    def _count(self, rows: list[str]) -> list[int]:
        """Return the untruncated token count of each row."""

    def _rows(self, texts: Sequence[str], prompt: str | None) -> list[str]:
        if isinstance(texts, str):  # also a sequence of strings, one a letter
            raise InputError("texts is one string; expected a list of strings.")
        prefix = self._prefix(prompt)
        return [prefix + _require_text(text, position) for position, text in enumerate(texts)]

    def _prefix(self, prompt: str | None) -> str:
        if prompt is None:
            return ""
        if prompt not in self.variant.prompts:
            raise InputError(
                f"prompt {prompt!r} is unknown to {self.variant.name}; "
                f"it has {sorted(self.variant.prompts) or 'no prompts'}."
            )
        return self.variant.prompts[prompt]

    def _width(self, dimensions: int | None) -> int:
        full = self.variant.dimensions
        if dimensions is not None and not 1 <= dimensions <= full:
            raise InputError(f"dimensions {dimensions} is out of range for {self.variant.name}: 1 to {full}.")
        return dimensions or full


class TokenizedEncoder(Encoder):
    """An encoder whose texts go through the variant's tokenizer.json (Hugging Face tokenizers)."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        super().__init__(folder, threads)
        from tokenizers import Tokenizer

        # The Rust tokenizer forks its own pool; beside a pinned model pool it only adds noise.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        path = folder / self.variant.files["tokenizer"]
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing narrower
            raise IntegrityError(f"{path}: tokenizers cannot load it ({error}). Build the variant again.") from None
        # Set once: a tokenizer that another thread uses cannot be changed ("Already borrowed").
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.variant.max_tokens)

    def limit_tokens(self, max_tokens: int) -> None:
        """As `Encoder.limit_tokens`."""
        super().limit_tokens(max_tokens)
        self.tokenizer.enable_truncation(max_tokens)

    def _ids(self, rows: list[str]) -> tuple[list[list[int]], list[int]]:
        """Return each row's token ids, truncated to `max_tokens`, and the positions of the truncated rows."""
        encodings = self.tokenizer.encode_batch(rows)
        truncated = [position for position, encoding in enumerate(encodings) if encoding.overflowing]
        return [encoding.ids for encoding in encodings], truncated

    def _count(self, rows: list[str]) -> list[int]:
        special = self.tokenizer.num_special_tokens_to_add(is_pair=False)
        encodings = self.tokenizer.encode_batch(rows)
        # What truncation removed is in `overflowing`, in parts that have special tokens of their own.
        return [
            len(encoding.ids) + sum(len(part.ids) - special for part in encoding.overflowing) for encoding in encodings
        ]


class GraphEncoder(TokenizedEncoder):
    """An encoder that runs one graph from ids and mask to vectors."""

    window = 32

    @abstractmethod
    def _infer(self, feeds: dict[str, NDArray[np.int64]]) -> Vectors:
        """Return the vectors [b, dimensions] of input_ids, attention_mask and token_type_ids, each [b, s]."""

    def _embed(self, rows: list[str], batch_size: int) -> tuple[Vectors, list[int]]:
        ids, truncated = self._ids(rows)
        out = np.empty((len(rows), self.variant.dimensions), dtype=np.float32)
        for positions in self._calls([len(row) for row in ids], batch_size):
            vectors = self._infer(self._feeds([ids[position] for position in positions]))
            if vectors.shape != (len(positions), self.variant.dimensions):
                return vectors, truncated  # `_vectors` refuses the shape
            out[positions] = vectors
        return out, truncated

    def _feeds(self, ids: list[list[int]]) -> dict[str, NDArray[np.int64]]:
        shape = (len(ids), max(map(len, ids)))
        tokens = np.full(shape, self.variant.pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for position, row in enumerate(ids):
            tokens[position, : len(row)] = row
            mask[position, : len(row)] = 1
        return {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros(shape, dtype=np.int64)}


def open_variant(folder: Path, threads: int | None = None, max_tokens: int | None = None) -> Encoder:
    """Open the encoder for one variant folder.

    Args:
        folder: a variant folder.
        threads: CPU threads; None means all that this process may use.
        max_tokens: truncate texts to fewer tokens than the variant takes, to bound the time of a call; None does not.

    Raises:
        IntegrityError: variant.json is missing or unreadable.
        InputError: the variant's kind is unknown, its library is not installed, or it takes fewer tokens.
    """
    variant = Variant.load(folder)
    if variant.kind not in KINDS:
        raise InputError(f"{folder}: kind {variant.kind!r} is unknown; this runtime has {sorted(KINDS)}. Update it.")
    kind = KINDS[variant.kind]
    module, _, name = kind.encoder.partition(":")
    try:
        encoder_class: type[Encoder] = getattr(importlib.import_module(module), name)
        encoder = encoder_class(folder, threads)
    except ImportError as error:
        raise InputError(f"{variant.name} needs a library that is missing ({error}). Next: {kind.install}") from None
    if max_tokens is not None:
        encoder.limit_tokens(max_tokens)
    return encoder


def truncate(vectors: Vectors, dimensions: int) -> Vectors:
    """Return vectors truncated to their first `dimensions` and renormalised: [n, d] -> [n, dimensions], float32.

    Matryoshka truncation as in Kusupati et al. 2022 (arXiv:2205.13147); norms are taken in float64.

    Raises:
        IntegrityError: a vector is not finite or has length zero; a zero norm never becomes NaN.
    """
    part = vectors[:, :dimensions].astype(np.float64)
    norms = np.linalg.norm(part, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
    if bad.size:
        raise IntegrityError(
            f"{bad.size} of {len(vectors)} vectors are not finite or have no length (first: row {bad[0]}). "
            "Do not ship this variant; its precision may overflow on this hardware."
        )
    unit: Vectors = (part / norms).astype(np.float32)
    return unit


def _require_text(text: object, position: int) -> str:
    """Return the text if it is a string that UTF-8 can encode."""
    if not isinstance(text, str):
        raise InputError(f"text {position} is a {type(text).__name__}; expected a string.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"text {position} holds a lone surrogate; expected valid Unicode.") from None
    return text
