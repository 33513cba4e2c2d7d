"""What all encoders share: prompts, tokens, truncation, batches, Matryoshka dimensions, unit norm."""

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..cpus import available_cpus
from ..errors import InputError, IntegrityError
from .kinds import KINDS
from .providers import CPU
from .rows import Embedding, Rows, Tokens, UnusableRowError, require_text
from .variant import Variant
from .vectors import Vectors, truncate


class TruncationWarning(UserWarning):
    """Some inputs were longer than the variant's limit and lost their end, or their beginning."""


class UnknownTextWarning(UserWarning):
    """The variant knows no token of some inputs: their vectors say nothing about them."""


class Encoder(ABC):
    """Encodes texts with one variant. Subclasses implement `_embed`, `_ids` and `_count`; callers see what is here.

    Threads may share an encoder.

    Args:
        folder: a variant folder (variant.json beside its files).
        threads: CPU threads of a call; None means one per CPU that this process may use, within its container's quota.
        calls: how many threads call `embed` at once; each call gets `threads`.
    """

    # Texts per call of the underlying library, unless the caller sets a batch size.
    default_batch: ClassVar[int] = 32
    # Batches passed to `_embed` at once; more than one where it sorts them by tokens, which beats characters.
    window: int = 1
    # Input lengths, in tokens, that have a graph of their own; empty where one graph takes any length.
    lengths: tuple[int, ...] = ()
    # What computes, keys of PROVIDERS.
    providers: tuple[str, ...] = CPU

    def __init__(self, folder: Path, threads: int | None = None, calls: int = 1) -> None:
        self.folder = folder
        self.variant = Variant.load(folder)
        self.threads = threads or available_cpus()
        self.calls = calls

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
            texts: the inputs; an empty string is allowed where the tokenizer adds special tokens.
            prompt: a key of the variant's prompts ("query", "document", …); None adds no prompt.
            dimensions: truncate vectors to this length and renormalise (Matryoshka); None keeps all.
            batch_size: texts per call of the underlying library; texts are batched by length.

        Raises:
            InputError: a text is not a string, holds a lone surrogate, has no token, or has a token that the model
                has no row for; unknown prompt; dimensions or batch size out of range.
            IntegrityError: the library returned a wrong shape, a non-finite or a zero vector.

        Warns:
            TruncationWarning: texts longer than the variant's `max_tokens` were truncated.
            UnknownTextWarning: a static table has a row for no token of some texts; all such have the same vector.
        """
        width = self._width(dimensions)
        rows = self._rows(texts, prompt)
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size {batch_size} is out of range: at least 1.")
        if not rows.texts:
            return np.zeros((0, width), dtype=np.float32)
        return truncate(self._vectors(rows, batch_size or self.default_batch), width, rows.texts)

    def limit_tokens(self, max_tokens: int) -> None:
        """Truncate texts to fewer tokens than the variant takes; call it before threads share the encoder.

        Raises:
            InputError: more tokens than the variant takes, or no more than the special ones, which go into every text.
        """
        special = self._count([""])[0]
        if not special < max_tokens <= self.variant.max_tokens:
            raise InputError(
                f"max_tokens {max_tokens} is out of range for {self.variant.name}, which adds {special} special tokens "
                f"to a text: {special + 1} to {self.variant.max_tokens}."
            )
        self.variant = replace(self.variant, max_tokens=max_tokens)

    def count_tokens(self, texts: Sequence[str], *, prompt: str | None = None) -> list[int]:
        """Return each text's length in tokens before truncation, prompt and special tokens included."""
        rows = self._rows(texts, prompt)
        return self._count(rows.texts) if rows.texts else []

    def token_ids(self, texts: Sequence[str], *, prompt: str | None = None) -> list[list[int]]:
        """Return each text's token ids as the model is given them: prompt and special tokens included, truncated."""
        rows = self._rows(texts, prompt)
        return self._ids(rows.texts) if rows.texts else []

    def tokenize(self, texts: Sequence[str], *, prompt: str | None = None) -> list[Tokens]:
        """Return the texts as `embed` takes them.

        Args:
            texts: see `encode`.
            prompt: see `encode`.

        Raises:
            InputError: see `encode`.
        """
        rows = self._rows(texts, prompt)
        try:
            return self._tokenize_rows(rows) if rows.texts else []
        except UnusableRowError as error:
            raise InputError(f"text {error.row} {error.reason}") from None

    def embed(self, rows: Sequence[Tokens]) -> Vectors:
        """Return the vectors of tokenized texts from one call of the library: float32 [len(rows), dimensions].

        They are not normalised: see `vectors.truncate`. Which texts may share a call: `Variant.batching`.
        """
        texts = Rows([row.text for row in rows], rows[0].prompt)
        return self._embed(texts, len(rows)).vectors

    def is_unknown(self, row: Tokens) -> bool:
        """Whether the variant knows no token of a text, so that its vector says nothing about it."""
        return False

    def _tokenize_rows(self, rows: Rows) -> list[Tokens]:
        """Return the rows' tokens.

        Raises:
            UnusableRowError: the model has no vector for a row.
        """
        pairs = zip(rows.texts, self._ids(rows.texts), self._count(rows.texts), strict=True)
        return [Tokens(text, rows.prompt, ids, count) for text, ids, count in pairs]

    def _vectors(self, rows: Rows, batch_size: int) -> Vectors:
        """Return the vectors of all rows, embedded in order of length so that little is computed on padding."""
        out = np.empty((len(rows), self.variant.dimensions), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda position: (len(rows.texts[position]), position))
        truncated: list[int] = []
        unknown: list[int] = []
        step = batch_size * self.window
        for start in range(0, len(order), step):
            positions = order[start : start + step]
            try:
                embedding = self._embed(rows.select(positions), batch_size)
            except UnusableRowError as error:
                raise InputError(f"text {positions[error.row]} {error.reason}") from None
            if embedding.vectors.shape != (len(positions), self.variant.dimensions):
                raise IntegrityError(
                    f"{self.folder}: expected vectors of shape {(len(positions), self.variant.dimensions)}, "
                    f"got {embedding.vectors.shape}. Build the variant again."
                )
            out[positions] = embedding.vectors
            truncated += [positions[row] for row in embedding.truncated]
            unknown += [positions[row] for row in embedding.unknown]
        self._warn(len(rows), truncated, unknown)
        return out

    def _warn(self, count: int, truncated: list[int], unknown: list[int]) -> None:
        """Say which of so many texts were truncated, and which have no token that the variant knows."""
        if truncated:
            end = "" if self.variant.truncation_side == "right" else " from the left"
            warnings.warn(
                f"{len(truncated)} of {count} texts exceed {self.variant.max_tokens} tokens and were truncated{end} "
                f"(first: text {min(truncated)}). Split them into shorter passages.",
                TruncationWarning,
                stacklevel=4,
            )
        if unknown:
            warnings.warn(
                f"{len(unknown)} of {count} texts have no token that {self.variant.name} knows (first: text "
                f"{min(unknown)}). All such texts have the same vector: do not search by it.",
                UnknownTextWarning,
                stacklevel=4,
            )

    @abstractmethod
    def _embed(self, rows: Rows, batch_size: int) -> Embedding:
        """Return the rows' vectors.

        Raises:
            UnusableRowError: the model has no vector for a row.
        """

    @abstractmethod
    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Return each text's token ids, special tokens included, truncated."""

    @abstractmethod
    def _count(self, texts: list[str]) -> list[int]:
        """Return the untruncated token count of each text."""

    def _rows(self, texts: Sequence[str], prompt: str | None) -> Rows:
        if isinstance(texts, str):  # also a sequence of strings, one a letter
            raise InputError("texts is one string; expected a list of strings.")
        prefix = self._prefix(prompt)
        return Rows([prefix + require_text(text, position) for position, text in enumerate(texts)], prefix)

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


def open_variant(
    folder: Path,
    threads: int | None = None,
    max_tokens: int | None = None,
    calls: int = 1,
    providers: Sequence[str] = CPU,
) -> Encoder:
    """Open the encoder for one variant folder.

    Args:
        folder: a variant folder.
        threads: CPU threads of a call; None means all that this process may use.
        max_tokens: truncate texts to fewer tokens than the variant takes, to bound the time of a call; None does not.
        calls: how many threads call the encoder at once.
        providers: keys of PROVIDERS in the order in which they are tried, for kinds that have others than the CPU.

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
        options = {"providers": providers} if kind.has_providers else {}
        encoder = encoder_class(folder, threads, calls, **options)
    except ImportError as error:
        raise InputError(f"{variant.name} needs a library that is missing ({error}). Next: {kind.install}") from None
    if max_tokens is not None:
        encoder.limit_tokens(max_tokens)
    return encoder
