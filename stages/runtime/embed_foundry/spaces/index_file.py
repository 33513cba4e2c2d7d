"""An index as a file: the vectors of documents, and where it has them, their texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..encoders.vectors import Vectors
from ..errors import InputError, one_line
from ..output.folder import atomic_file

if TYPE_CHECKING:
    from pyarrow import Array
    from pyarrow.parquet import ParquetFile

VECTOR, TEXT = "vector", "text"
# Vectors read, or written, at once.
STEP = 8192


@dataclass(frozen=True)
class IndexFile:
    """Vectors in a NumPy file [n, d], or in a column of lists of a Parquet file.

    Attributes:
        path: the file, .npy or .parquet.
        vectors: how many.
        dimensions: of each.
    """

    path: Path
    vectors: int
    dimensions: int

    @classmethod
    def open(cls, path: Path) -> "IndexFile":
        """Look at an index.

        Raises:
            InputError: missing, unreadable, of another format, or with vectors of several lengths.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such file. Expected vectors in .npy, or in .parquet with a column {VECTOR}.")
        if path.suffix == ".npy":
            array = _open_array(path)
            return cls(path, *array.shape)
        if path.suffix == ".parquet":
            return cls(path, *_measure_parquet(path))
        raise InputError(f"{path}: unknown format {path.suffix!r}. Expected .npy, or .parquet with a column {VECTOR}.")

    def read(self, rows: NDArray[np.intp]) -> Vectors:
        """Return some vectors, float32, in the order of `rows`, which ascend: [len(rows), dimensions]."""
        if self.path.suffix == ".npy":
            return np.asarray(_open_array(self.path)[rows], np.float32)
        parts, wanted = [], np.asarray(rows)
        for start, part in self.iterate():
            here = wanted[(wanted >= start) & (wanted < start + len(part))] - start
            parts.append(part[here])
        return np.concatenate(parts)

    def iterate(self) -> Iterator[tuple[int, Vectors]]:
        """Yield the position of a first vector, and the vectors from there on."""
        if self.path.suffix == ".npy":
            array = _open_array(self.path)
            for start in range(0, len(array), STEP):
                yield start, np.asarray(array[start : start + STEP], np.float32)
            return
        start = 0
        for batch in _parquet(self.path).iter_batches(STEP, columns=[VECTOR]):
            part = _to_array(batch.column(0), self.path)
            yield start, part
            start += len(part)

    def read_texts(self) -> list[str] | None:
        """Return the texts of a Parquet file's column `text`; None if it has none."""
        if self.path.suffix != ".parquet" or TEXT not in _parquet(self.path).schema_arrow.names:
            return None
        return [str(text) for text in _parquet(self.path).read(columns=[TEXT]).column(0).to_pylist()]

    @contextmanager
    def rewrite(self, out: Path, dimensions: int) -> Iterator["IndexWriter"]:
        """Yield a writer of an index like this one with other vectors; `out` appears once all are written.

        Raises:
            InputError: `out` has another format, or is this index.
        """
        if out.suffix != self.path.suffix or (out.exists() and out.samefile(self.path)):
            raise InputError(f"{out}: expected another file than the index, of its format {self.path.suffix}.")
        with atomic_file(out, self.vectors * dimensions * 4) as work:
            writer: IndexWriter = (
                _NpyWriter(work, self, dimensions) if out.suffix == ".npy" else _ParquetWriter(work, self, dimensions)
            )
            try:
                yield writer
            finally:
                writer.close()


class IndexWriter(Protocol):
    """Takes the vectors of an index part by part."""

    def write(self, vectors: Vectors) -> None:
        """Take the next vectors."""

    def close(self) -> None:
        """End the file."""


class _NpyWriter:
    def __init__(self, path: Path, index: IndexFile, dimensions: int) -> None:
        shape = (index.vectors, dimensions)
        self.array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        self.count = 0

    def write(self, vectors: Vectors) -> None:
        self.array[self.count : self.count + len(vectors)] = vectors
        self.count += len(vectors)

    def close(self) -> None:
        self.array.flush()


class _ParquetWriter:
    """Copies all other columns."""

    def __init__(self, path: Path, index: IndexFile, dimensions: int) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        source = _parquet(index.path)
        self.batches = source.iter_batches(STEP)
        self.place = source.schema_arrow.get_field_index(VECTOR)
        self.type = pa.list_(pa.float32(), dimensions)
        self.writer = ParquetWriter(path, source.schema_arrow.set(self.place, pa.field(VECTOR, self.type)))

    def write(self, vectors: Vectors) -> None:
        import pyarrow as pa

        numbers = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(numbers, type=self.type)
        self.writer.write_batch(next(self.batches).set_column(self.place, pa.field(VECTOR, self.type), column))

    def close(self) -> None:
        self.writer.close()


def _open_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as .npy ({one_line(error)}). Write it by numpy.save.") from None
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise InputError(f"{path}: holds {array.dtype} {list(array.shape)}; expected floats [n, d].")
    return array


def _parquet(path: Path) -> "ParquetFile":
    try:
        import pyarrow.parquet as pq
        from pyarrow import ArrowException
    except ImportError as error:
        raise InputError(f"{path}: .parquet needs pyarrow ({error}). Next: pip install pyarrow") from None
    try:
        return pq.ParquetFile(path)
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as .parquet ({one_line(error)}).") from None


def _measure_parquet(path: Path) -> tuple[int, int]:
    file = _parquet(path)
    if VECTOR not in file.schema_arrow.names:
        raise InputError(f"{path}: has columns {file.schema_arrow.names}; expected lists of floats in {VECTOR!r}.")
    if not file.metadata.num_rows:
        raise InputError(f"{path}: has no rows.")
    first = next(file.iter_batches(1, columns=[VECTOR]))
    return int(file.metadata.num_rows), int(_to_array(first.column(0), path).shape[1])


def _to_array(column: "Array", path: Path) -> Vectors:
    try:
        return np.array(column.to_pylist(), dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {VECTOR} holds no floats of one length ({one_line(error)}). Correct it.") from None
