"""Static encoder (Model2Vec): a text's vector is the mean of its tokens' rows in one table. No model library."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from .encoder import TokenizedEncoder, Vectors
from .errors import IntegrityError


class StaticEncoder(TokenizedEncoder):
    """Looks tokens up and averages them, as `model2vec.StaticModel` does, unknown tokens left out.

    The table may be int8: rows share one scale, which unit norm removes.
    """

    special_tokens = False
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

    def _embed(self, rows: list[str], batch_size: int) -> tuple[Vectors, list[int]]:
        ids, truncated = self._ids(rows)
        out = np.empty((len(rows), self.table.shape[1]), dtype=np.float32)
        for at, row in enumerate(ids):
            out[at] = self._mean([token for token in row if token != self.unknown])
        return out, truncated

    def _mean(self, tokens: list[int]) -> Vectors:
        if not tokens:  # "" or nothing known: the table's mean row, a defined vector far from none
            return np.asarray(self.table.mean(axis=0, dtype=np.float32))
        index = np.asarray(tokens)
        table_rows = self.table[self.rows[index] if self.rows is not None else index].astype(np.float32)
        if self.weights is not None:
            table_rows = table_rows * self.weights[index, None].astype(np.float32)
        return np.asarray(table_rows.mean(axis=0), dtype=np.float32)
