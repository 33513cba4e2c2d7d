"""Reading the user's triplets from a file, or from a folder with a file per split."""

import re
from collections.abc import Sequence
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.contract.tables import Row
from stages.common.sources import rows
from stages.finetune.triplets import Triplet, normalize_text

COLUMNS = "anchor, positive and, if you have them, negative, negative_2 …, or a list in negatives"
NEGATIVE = re.compile(r"negatives|negative(?:_\d+)?")


def read_splits(path: Path, splits: Sequence[str]) -> dict[str, list[Triplet]]:
    """Return split -> examples; "train" alone where the user did not split them.

    Args:
        path: a file, or a folder with a file for train or for each split.
        splits: the names of all splits, train first.

    Raises:
        InputError: there is no such file, it is malformed, or a training text is in another split, too.
    """
    if path.is_file():
        return {"train": read_triplets(path)}
    if not path.is_dir():
        raise InputError(f"finetune.data.path {path}: is neither a file nor a folder. Set it to your triplets.")
    files = {name: file for name in splits for suffix in rows.FORMATS if (file := path / f"{name}{suffix}").is_file()}
    if "train" not in files:
        raise InputError(f"finetune.data.path {path}: has no train.csv, train.jsonl or train.parquet. Add one.")
    if set(files) not in ({"train"}, set(splits)):
        raise InputError(f"finetune.data.path {path}: has {sorted(files)}; give train alone, or {', '.join(splits)}.")
    parts = {name: read_triplets(file) for name, file in files.items()}
    if set(parts) == set(splits):
        _require_no_leak(parts, files)
    return parts


def read_triplets(path: Path) -> list[Triplet]:
    """Return a file's examples, each validated; rows may have unequal numbers of negatives.

    Raises:
        InputError: a column is missing, or a row has something else than text, is repeated, or contradicts itself or
            another row.
    """
    if path.suffix not in rows.FORMATS:
        raise InputError(f"{path}: expected one of {', '.join(rows.FORMATS)}. Export it as one of them.")
    table = rows.read(path)
    names = list(dict.fromkeys(str(name) for row in table for name in row))
    if missing := {"anchor", "positive"} - set(names):
        raise InputError(
            f"{path}: has no column {' and '.join(sorted(missing))}, only {rows.list_names(names)}. Expected {COLUMNS}."
        )
    columns = [name for name in names if NEGATIVE.fullmatch(name)]
    if unknown := [name for name in names if name.lower().startswith("neg") and name not in columns]:
        raise InputError(f"{path}: has a column {unknown[0]!a}. Expected {COLUMNS}. Rename or remove it.")
    triplets = [_read_triplet(path, number, row, columns) for number, row in enumerate(table, start=1)]
    _require_consistency(path, triplets)
    return triplets


def _read_triplet(path: Path, number: int, row: Row, columns: Sequence[str]) -> Triplet:
    """Return one row's example; an absent negative is null, or in a CSV file an empty cell."""
    anchor, positive = (rows.require_text(path, number, name, row.get(name)) for name in ("anchor", "positive"))
    negatives = []
    for name in columns:
        value = row.get(name)
        if value is None or (value == "" and path.suffix == ".csv"):
            continue
        texts = value if isinstance(value, list) else [value]
        negatives += [rows.require_text(path, number, name, text) for text in texts]
    triplet = Triplet(anchor, positive, tuple(negatives))
    if triplet.key[1] in {triplet.key[0], *map(normalize_text, negatives)}:
        raise InputError(f"{path}, row {number}: the positive is also the anchor or a negative. Correct it.")
    return triplet


def _require_consistency(path: Path, triplets: Sequence[Triplet]) -> None:
    """Refuse a repeated row, and a negative that another row gives as the same anchor's positive."""
    row_numbers: dict[tuple[str, str], int] = {}
    for number, triplet in enumerate(triplets, start=1):
        if (first := row_numbers.setdefault(triplet.key, number)) != number:
            raise InputError(f"{path}, row {number}: repeats row {first}. Remove one of them.")
    for number, triplet in enumerate(triplets, start=1):
        for negative in triplet.negatives:
            if other := row_numbers.get((triplet.key[0], normalize_text(negative))):
                raise InputError(
                    f"{path}, row {number}: the negative {negative!a:.60} is the positive of row {other}, whose anchor "
                    "is the same. Correct one of them."
                )


def _require_no_leak(parts: dict[str, list[Triplet]], files: dict[str, Path]) -> None:
    """Refuse a training text that is also in a later split."""
    owners = {text: name for name in parts if name != "train" for triplet in parts[name] for text in triplet.key}
    for number, triplet in enumerate(parts["train"], start=1):
        if leaks := [text for text in triplet.key if text in owners]:
            raise InputError(
                f"{files['train']}, row {number}: {leaks[0]!r:.60} is also in {files[owners[leaks[0]]]}, so the result "
                "would prove nothing. Remove it from one of them."
            )
