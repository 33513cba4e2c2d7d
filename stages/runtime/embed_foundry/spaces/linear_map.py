"""A linear map from one vector space to another, fitted in closed form: the old index, read in the new space."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import manifest, signature
from ..encoders.vectors import Vectors, truncate
from ..errors import InputError, IntegrityError, one_line
from ..manifest import JsonObject
from ..output.folder import atomic_folder
from ..signer import Signer

RECORD, MATRIX = "map.json", "map.safetensors"
SCHEMA = 1
SIGNATURE = ".signature.json"
PREDICATE = "urn:embed-foundry:map:1"
# Ridge penalties that are tried, as shares of the mean squared singular value.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
REFUSAL = "Do not use this map; fit it again with embed-foundry compare --write-map."


@dataclass(frozen=True)
class Space:
    """Where vectors come from.

    Attributes:
        space_id: the vector space.
        release: digest of the release.
        variant: name of the variant in it.
        digest: of the variant's files.
        dimensions: length of the vectors.
    """

    space_id: str
    release: str
    variant: str
    digest: str
    dimensions: int


@dataclass(frozen=True)
class LinearMap:
    """A map of unit vectors: multiplied by a matrix, then normalised again.

    Attributes:
        source, target: the spaces.
        matrix: float32 [source dimensions, target dimensions].
        texts: how many texts it was fitted to.
        penalty: the ridge penalty, as a share of the mean squared singular value.
        kept: task -> share of the target's own nDCG@10 that a mapped index keeps on texts held out, and its lower
            bound.
    """

    source: Space
    target: Space
    matrix: Vectors
    texts: int
    penalty: float
    kept: dict[str, tuple[float, float]]

    def require(self, dimensions: int, name: str) -> None:
        """Check that vectors have the source's length.

        Raises:
            InputError: they have not; `name` says whose they are.
        """
        if dimensions != self.source.dimensions:
            raise InputError(
                f"{name}: has vectors of {dimensions} dimensions, this map takes {self.source.dimensions}, those of "
                f"{self.source.variant}. Map the index that this variant made."
            )

    def apply(self, vectors: Vectors, first: int = 0) -> Vectors:
        """Return vectors of the source's space in the target's: [n, source dimensions] -> unit [n, target dimensions].

        Args:
            vectors: of unit norm or not.
            first: the number of the first, for messages.

        Raises:
            IntegrityError: a vector is not finite, or the map leaves it without a direction.
        """
        names = [f"row {first + row}" for row in range(len(vectors))]
        return truncate(vectors.astype(np.float32) @ self.matrix, self.target.dimensions, names)

    def write(self, folder: Path) -> str:
        """Write the map to a folder, which appears whole, and return its digest."""
        from safetensors.numpy import save_file

        record = asdict(self) | {"schema": SCHEMA}
        del record["matrix"]
        if folder.exists() and not (folder / RECORD).is_file():
            raise InputError(f"{folder}: exists and is no map. Name another folder.")
        with atomic_folder(folder) as work:
            save_file({"matrix": np.ascontiguousarray(self.matrix)}, work / MATRIX)
            (work / RECORD).write_bytes(manifest.canonical(record))
            return manifest.write(work, {})

    @classmethod
    def read(cls, folder: Path, signer: Signer | None = None) -> "LinearMap":
        """Read a map after every byte of it was checked.

        Args:
            folder: what `write` wrote.
            signer: who must have signed it; None checks no signature.

        Raises:
            InputError: no such folder.
            IntegrityError: a byte differs, it is no map, or `signer` did not sign it.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / RECORD).is_file():
            raise InputError(f"{folder}: is no map. Make one: embed-foundry compare OLD NEW --write-map FOLDER")
        manifest.verify(folder)
        if signer:
            _require_signed(folder, signer)
        try:
            record = json.loads((folder / RECORD).read_bytes())
            matrix = load_file(folder / MATRIX)["matrix"]
            source, target = Space(**record["source"]), Space(**record["target"])
            kept = {str(task): (float(share), float(low)) for task, (share, low) in record["kept"].items()}
            linear_map = cls(source, target, matrix, int(record["texts"]), float(record["penalty"]), kept)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise IntegrityError(f"{folder}: cannot be read as a map ({one_line(error)}). {REFUSAL}") from None
        shape = (source.dimensions, target.dimensions)
        if record.get("schema") != SCHEMA or matrix.shape != shape or matrix.dtype != np.float32:
            raise IntegrityError(
                f"{folder}: schema {record.get('schema')!a:.20} and a matrix {matrix.dtype} {list(matrix.shape)}; "
                f"expected {SCHEMA} and float32 {list(shape)}. {REFUSAL}"
            )
        return linear_map


def fit(source: Vectors, target: Vectors) -> tuple[Vectors, float]:
    """Return the matrix that maps texts' vectors in one space to theirs in another, and the penalty that it took.

    Ridge regression in float64; of `PENALTIES`, the one with the least leave-one-out error (Allen's PRESS; Golub, Heath
    and Wahba 1979) is taken.

    Args:
        source: unit vectors [n, d].
        target: of the same texts, [n, e].

    Returns:
        float32 [d, e], and a share of the mean squared singular value.
    """
    left, values, right = np.linalg.svd(source.astype(np.float64), full_matrices=False)
    projected, squares = left.T @ target, values**2
    best, least = PENALTIES[0], math.inf
    for penalty in PENALTIES:
        shares = squares / (squares + penalty * squares.mean())
        residual = target - left @ (shares[:, None] * projected)
        leverage: NDArray[np.float64] = (left**2) @ shares
        error = float(((residual / np.maximum(1 - leverage, 1e-6)[:, None]) ** 2).sum())
        if error < least:
            best, least = penalty, error
    inverse = values / (squares + best * squares.mean())
    return (right.T @ (inverse[:, None] * projected)).astype(np.float32), best


def build_statement(folder: Path) -> JsonObject:
    """Return the in-toto statement that a map's signature is about."""
    return {
        "_type": signature.STATEMENT,
        "subject": signature.build_subject({manifest.NAME: manifest.sha256(folder / manifest.NAME)}),
        "predicateType": PREDICATE,
        "predicate": {"map": manifest.read(folder).digest},
    }


def signature_of(folder: Path) -> Path:
    """Return the file of a map's signature, beside its folder, whether or not it exists."""
    whole = folder.resolve()
    return whole.with_name(whole.name + SIGNATURE)


def _require_signed(folder: Path, signer: Signer) -> None:
    path = signature_of(folder)
    if not path.is_file():
        raise IntegrityError(f"{folder}: is not signed: {path.name} is missing. Take it from where the map came from.")
    _, payload = signer.open_envelope(path)
    try:
        statement = json.loads(payload)
    except ValueError:
        statement = None
    if statement != build_statement(folder):
        raise IntegrityError(f"{path}: is about another map than {folder}. {REFUSAL}")
