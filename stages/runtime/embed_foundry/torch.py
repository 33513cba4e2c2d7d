"""PyTorch encoder (sentence-transformers): the fp32 baseline and other reference precisions. Needs torch installed."""

from pathlib import Path

import numpy as np

from .encoder import Encoder, GraphEncoder, Vectors

# Precision -> the type of everything that is not stored as integers.
TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "float32"}


class TorchEncoder(Encoder):
    """Runs the model folder as SentenceTransformer loads it, in the variant's precision, on the CPU."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        super().__init__(folder, threads)
        import torch
        from sentence_transformers import SentenceTransformer

        if self.variant.precision == "int8":
            from . import torch_int8  # noqa: F401 - registers the layers with transformers

        self.window = GraphEncoder.window
        torch.set_num_threads(self.threads)
        self.model = SentenceTransformer(
            str(folder / self.variant.files["model"]),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": getattr(torch, TYPES[self.variant.precision])},
        )
        self.model.max_seq_length = self.variant.max_tokens
        self.model.prompts = {}
        self.model.default_prompt_name = None
        self.model.eval()

    def limit_tokens(self, max_tokens: int) -> None:
        """As `Encoder.limit_tokens`."""
        super().limit_tokens(max_tokens)
        self.model.max_seq_length = max_tokens

    def _embed(self, rows: list[str], batch_size: int) -> tuple[Vectors, list[int]]:
        if self.variant.batching == "padded" and len(rows) <= batch_size:
            return self._call(rows)  # counting tokens first would slow the baseline down
        out = np.empty((len(rows), self.variant.dimensions), dtype=np.float32)
        truncated: list[int] = []
        lengths = [min(count, self.variant.max_tokens) for count in self._count(rows)]
        for positions in self._calls(lengths, batch_size):
            out[positions], truncated_rows = self._call([rows[position] for position in positions])
            truncated += [positions[row] for row in truncated_rows]
        return out, truncated

    def _call(self, rows: list[str]) -> tuple[Vectors, list[int]]:
        """Run the model once; return the vectors [len(rows), dimensions] and the positions of truncated rows."""
        import torch

        with torch.inference_mode():
            features = self.model.preprocess(rows)
            lengths = features["attention_mask"].sum(dim=1).tolist()
            vectors = self.model(features)["sentence_embedding"].float().numpy()
        # Only a row that fills the limit can be a truncated one; counting all rows again would slow the baseline down.
        full = [row for row, length in enumerate(lengths) if length == self.variant.max_tokens]
        counts = self._count([rows[row] for row in full]) if full else []
        truncated = [row for row, count in zip(full, counts, strict=True) if count > self.variant.max_tokens]
        return np.asarray(vectors, dtype=np.float32), truncated

    def _count(self, rows: list[str]) -> list[int]:
        return [len(ids) for ids in self.model.tokenizer(rows, truncation=False, verbose=False)["input_ids"]]
