"""LiteRT-LM encoder: one .litertlm file, opened by the EmbeddingEngine that apps on phones use, tokenizer and all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, IntegrityError, one_line
from .rows import Embedding, Rows, Tokens
from .tflite import TfliteEncoder
from .vectors import Vectors

# The engine would write XNNPACK's packed weights beside the file, where a release allows no other.
NO_CACHE = ":nocache"


class LitertlmEncoder(TfliteEncoder):
    """Passes texts to the engine, which tokenizes, truncates and computes one at a time.

    Token ids are computed beside it, as for tflite variants, only to count and check them.

    Raises:
        IntegrityError: the engine cannot open the file.
    """

    def __init__(self, folder: Path, threads: int | None = None, calls: int = 1) -> None:
        super().__init__(folder, threads, calls)
        self.lengths = ()  # no graph that could be asked by itself
        import litert_lm
        from litert_lm.embedding_engine import EmbeddingOptions, InputOverflowStrategy

        path = self.variant.locate(folder, "container")
        litert_lm.set_min_log_severity(litert_lm.LogSeverity.SILENT)  # it logs a page on the way to an open file
        try:
            backend = litert_lm.Backend.CPU(thread_count=self.threads * self.calls)  # calls come one by one
            self.engine: Any = litert_lm.EmbeddingEngine(str(path), backend=backend, cache_dir=NO_CACHE)
        except RuntimeError as error:
            raise IntegrityError(
                f"{path}: LiteRT-LM cannot open it ({one_line(error)}). Build the variant again."
            ) from None
        self.options = EmbeddingOptions(normalize=True, input_overflow_strategy=InputOverflowStrategy.TRUNCATE)

    def limit_tokens(self, max_tokens: int) -> None:
        """Refuse any limit but the file's own: the engine truncates at its longest signature.

        Raises:
            InputError: another limit.
        """
        if max_tokens != self.variant.max_tokens:
            raise InputError(
                f"max_tokens {max_tokens}: LiteRT-LM truncates {self.variant.name} at {self.variant.max_tokens}, its "
                "longest length. Build the variant with other lengths."
            )

    def _embed(self, rows: Rows, batch_size: int) -> Embedding:
        tokens = self.tokenizer.encode(rows.texts)
        limit = self.variant.max_tokens - self.special_tokens
        vectors = [
            self._compute(position, text, self._truncate(row))
            for position, (text, row) in enumerate(zip(rows.texts, tokens, strict=True))
        ]
        return Embedding(np.stack(vectors), [position for position, row in enumerate(tokens) if len(row) > limit])

    def embed(self, rows: Sequence[Tokens]) -> Vectors:
        """As `Encoder.embed`; the engine tokenizes the texts again."""
        return np.stack([self._compute(position, row.text, row.ids) for position, row in enumerate(rows)])

    def _compute(self, position: int, text: str, ids: list[int]) -> Vectors:
        self._check(position, ids)
        with self.graphs_lock:  # the engine serves one thread at a time
            return np.array(self.engine.compute_embedding(text, self.options).embedding, dtype=np.float32)
