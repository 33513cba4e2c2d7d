"""PyTorch encoder (sentence-transformers): the fp32 baseline and other reference precisions. Needs torch installed."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .encoder import Encoder
from .providers import CPU
from .rows import Embedding, Rows, UnusableRowError
from .tokenized import CALL_TOKENS, EMPTY, GraphEncoder, describe_missing_row, plan_calls

if TYPE_CHECKING:
    from torch import Tensor

# Precision -> the type of everything that is not stored as integers.
TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "float32"}


class TorchEncoder(Encoder):
    """Runs the model folder as SentenceTransformer loads it, in the variant's precision, on the CPU or a GPU."""

    def __init__(
        self, folder: Path, threads: int | None = None, calls: int = 1, providers: Sequence[str] = CPU
    ) -> None:
        super().__init__(folder, threads, calls)
        import torch
        from sentence_transformers import SentenceTransformer

        if self.variant.precision == "int8":
            from . import torch_int8  # noqa: F401 - registers the layers with transformers

        self.window = GraphEncoder.window
        torch.set_num_threads(self.threads)
        device = "cuda" if "cuda" in providers and torch.cuda.is_available() else "cpu"
        self.providers = ("cuda", *CPU) if device == "cuda" else CPU
        with _without_bars():
            self.model = SentenceTransformer(
                str(self.variant.locate(folder, "model")),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": getattr(torch, TYPES[self.variant.precision])},
            )
        self.model.max_seq_length = self.variant.max_tokens
        self.model.prompts = {}
        self.model.default_prompt_name = None
        self.model.eval()
        # Every call of it changes the tokenizer's settings, which fails while another thread uses them.
        self.tokenizing = threading.Lock()

    def limit_tokens(self, max_tokens: int) -> None:
        """As `Encoder.limit_tokens`."""
        super().limit_tokens(max_tokens)
        self.model.max_seq_length = max_tokens

    def _embed(self, rows: Rows, batch_size: int) -> Embedding:
        bounded = len(rows) <= batch_size and len(rows) * self.variant.max_tokens <= CALL_TOKENS
        if len(rows) == 1 or (self.variant.batching == "padded" and bounded):
            return self._call(rows)  # counting tokens first would slow the baseline down
        out = np.empty((len(rows), self.variant.dimensions), dtype=np.float32)
        truncated: list[int] = []
        lengths = [min(count, self.variant.max_tokens) for count in self._count(rows.texts)]
        for positions in plan_calls(lengths, batch_size, self.variant.batching):
            try:
                embedding = self._call(rows.select(positions))
            except UnusableRowError as error:
                raise UnusableRowError(positions[error.row], error.reason) from None
            out[positions] = embedding.vectors
            truncated += [positions[row] for row in embedding.truncated]
        return Embedding(out, truncated)

    def _call(self, rows: Rows) -> Embedding:
        """Run the model once."""
        import torch
        from sentence_transformers.util import batch_to_device

        with torch.inference_mode():
            features = self._preprocess(rows)
            lengths = features["attention_mask"].sum(dim=1).tolist()
            self._check(features["input_ids"], lengths)
            outputs = self.model(batch_to_device(features, self.model.device))
            vectors = outputs["sentence_embedding"].float().cpu().numpy()
        # Only a row that fills the limit can be a truncated one; counting all rows again would slow the baseline down.
        full = [row for row, length in enumerate(lengths) if length == self.variant.max_tokens]
        counts = self._count([rows.texts[row] for row in full]) if full else []
        truncated = [row for row, count in zip(full, counts, strict=True) if count > self.variant.max_tokens]
        return Embedding(np.asarray(vectors, dtype=np.float32), truncated)

    def _preprocess(self, rows: Rows) -> "dict[str, Tensor]":
        """Return sentence-transformers' features of the rows; it counts the tokens of a prompt that it is given."""
        with self.tokenizing:
            if self.variant.pools_prompt:
                features: dict[str, Tensor] = self.model.preprocess(rows.texts)
            else:
                texts = [text[len(rows.prompt) :] for text in rows.texts]
                features = self.model.preprocess(texts, prompt=rows.prompt or None)
        return features

    def _check(self, ids: "Tensor", lengths: list[int]) -> None:
        if 0 in lengths:
            raise UnusableRowError(lengths.index(0), EMPTY)
        rows = self.variant.vocabulary
        if rows and int(ids.max()) >= rows:
            row, column = (ids >= rows).nonzero()[0].tolist()
            number = int(ids[row, column])
            token = self.model.tokenizer.convert_ids_to_tokens(number)
            raise UnusableRowError(row, describe_missing_row(token, number, rows))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids = []
        for text in texts:  # one by one: without padding
            with self.tokenizing:
                ids.append(self.model.preprocess([text])["input_ids"][0].tolist())
        return ids

    def _count(self, texts: list[str]) -> list[int]:
        with self.tokenizing:
            return [len(ids) for ids in self.model.tokenizer(texts, truncation=False, verbose=False)["input_ids"]]


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers 5 from drawing a bar on stderr while it loads weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
