"""Reading the user's triplets from a file, or from a folder with a file per split."""

from collections.abc import Sequence
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.sources import rows
from stages.finetune.triplets import Triplet, normalize_text

COLUMNS = "anchor, positive and, if you have them, negative, negative_2 …"


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
    """Return a file's examples, each validated.

    Raises:
        InputError: a column is missing, or a row is empty, repeated, or its own negative.
    """
    if path.suffix not in rows.FORMATS:
        raise InputError(f"{path}: expected one of {', '.join(rows.FORMATS)}. Export it as one of them.")
    table = rows.read(path)
    negatives = [name for name in table[0] if name is not None and name.startswith("negative")]
    if missing := {"anchor", "positive"} - set(table[0]):
        raise InputError(f"{path}: has no column {' and '.join(sorted(missing))}. Expected {COLUMNS}.")
    row_numbers: dict[tuple[str, str], int] = {}
    triplets = []
    for number, row in enumerate(table, start=1):
        for name in ("anchor", "positive", *negatives):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise InputError(
                    f"{path}, row {number}: {name} is {row.get(name)!r:.60}, expected text. Fill or remove it."
                )
        triplet = Triplet(row["anchor"], row["positive"], tuple(row[name] for name in negatives))
        anchor, positive = triplet.key
        if positive in {anchor, *map(normalize_text, triplet.negatives)}:
            raise InputError(f"{path}, row {number}: the positive is also the anchor or a negative. Correct it.")
        if (first := row_numbers.setdefault(triplet.key, number)) != number:
            raise InputError(f"{path}, row {number}: repeats row {first}. Remove one of them.")
        triplets.append(triplet)
    return triplets


def _require_no_leak(parts: dict[str, list[Triplet]], files: dict[str, Path]) -> None:
    """Refuse a training text that is also in a later split."""
    owners = {text: name for name in parts if name != "train" for triplet in parts[name] for text in triplet.key}
    for number, triplet in enumerate(parts["train"], start=1):
        if leaks := [text for text in triplet.key if text in owners]:
            raise InputError(
                f"{files['train']}, row {number}: {leaks[0]!r:.60} is also in {files[owners[leaks[0]]]}, so the result "
                "would prove nothing. Remove it from one of them."
            )
