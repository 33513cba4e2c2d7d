"""Triplets: where they come from, what is refused, and how they are split so that no text is on two sides."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

from stages.common.config.finetune import ExampleSource
from stages.common.contract.tables import write_json_lines
from stages.common.sources import aws, rows

SPLITS = ("train", "dev", "held_out")
# Fewer would make a step of one batch, or an interval that says nothing.
LEAST = {"train": 16, "dev": 4, "held_out": 8}
# Words by which a text is looked for before it is searched for.
START = 5
COLUMNS = "anchor, positive and, if you have them, negative, negative_2 …"


@dataclass(frozen=True)
class Triplet:
    """A question, the text that answers it, texts that do not; examples of one group stay on one side of the split."""

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    group: str = ""

    @property
    def asked(self) -> tuple[str, str]:
        """Return the two texts by which an example is known, without regard to case and white space."""
        return plain(self.anchor), plain(self.positive)


@dataclass(frozen=True)
class Splits:
    """What is trained on, what chooses the checkpoint, what proves the gain, and what was left out and why."""

    train: list[Triplet]
    dev: list[Triplet]
    held_out: list[Triplet]
    dropped: dict[str, int]

    def write(self, folder: Path) -> None:
        """Write each split as JSON lines."""
        for name in SPLITS:
            write_json_lines(folder / f"{name}.jsonl", [asdict(one) for one in getattr(self, name)])


def splits(config: ExampleSource, seed: int, suite: Path, found: Sequence[Triplet] | None = None) -> Splits:
    """Return the examples of a source, split by group, free of what the suite measures.

    Args:
        config: source and shares.
        seed: of the split and the order.
        suite: data/, whose texts are kept out of train and dev.
        found: examples made of documents, for source=documents.

    Raises:
        InputError: a file is not what it should be, or too little is left.
    """
    if config.source == "triplets":
        parts = _files(Path(str(config.path)).expanduser())
    else:
        parts = {"": operations() if found is None else list(found)}
    if "dev" not in parts or "held_out" not in parts:
        _share_out(parts, config, seed)
    dropped: Counter[str] = Counter()
    measured = _Measured(suite)
    later: set[str] = set()
    for name in reversed(SPLITS):  # what proves is kept, what trains gives way
        kept = []
        for one in sorted(parts[name], key=lambda one: (one.asked, one.negatives)):
            if later & set(one.asked):
                dropped[f"{name}: also in a later split"] += 1
            elif name != "held_out" and any(text in measured for text in one.asked):
                dropped[f"{name}: in the suite"] += 1
            else:
                kept.append(one)
        random.Random(seed).shuffle(kept)  # noqa: S311 - a sample, not a secret
        parts[name] = kept
        later |= {text for one in kept for text in one.asked}
    if config.examples:
        parts["train"] = parts["train"][: config.examples]
    for name, least in LEAST.items():
        if len(parts[name]) < least:
            raise InputError(
                f"finetune: {len(parts[name])} examples in {name}, expected at least {least} (left out: "
                f"{dict(dropped) or 'none'}). Add data, or change finetune.data.dev and held_out."
            )
    return Splits(**{name: parts[name] for name in SPLITS}, dropped=dict(sorted(dropped.items())))


def operations() -> list[Triplet]:
    """Return botocore's operations: first sentence and the rest, grouped by service."""
    return [Triplet(op.summary, op.details, group=op.service) for op in aws.load_operations()]


def suite_texts(suite: Path) -> Iterator[str]:
    """Yield every text of the suite's task files."""
    for path in sorted(suite.glob("*/**/*")):
        if path.suffix in (".jsonl", ".csv"):
            for row in rows.read(path):
                yield from _strings(row)


def plain(text: str) -> str:
    """Return a text without regard to case and white space."""
    return " ".join(text.split()).casefold()


class _Measured:
    """What the suite measures: finds a text that is one of its texts or, if it is not short, stands inside one."""

    def __init__(self, suite: Path) -> None:
        self.texts = {plain(text) for text in suite_texts(suite)}
        self.joined = "\n".join(sorted(self.texts))
        self.starts = {start for text in self.texts for start in _starts(text.split())}

    def __contains__(self, text: str) -> bool:
        if text in self.texts or len(text) < aws.QUERY_MIN:
            return text in self.texts
        # The last word may go on in the suite's text; the search itself is slow, so most texts are ruled out before it.
        words = text.split()[:-1]
        return (len(words) < START or tuple(words[:START]) in self.starts) and text in self.joined


def _starts(words: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[at : at + START]) for at in range(len(words) - START + 1))


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _files(place: Path) -> dict[str, list[Triplet]]:
    """Return the user's splits; a single file has the name "" until it is shared out."""
    if place.is_file():
        return {"": _read(place)}
    if not place.is_dir():
        raise InputError(f"finetune.data.path {place}: is neither a file nor a folder. Set it to your triplets.")
    found = {name: path for name in SPLITS for form in rows.FORMATS if (path := place / f"{name}{form}").is_file()}
    if "train" not in found:
        raise InputError(f"finetune.data.path {place}: has no train.csv, train.jsonl or train.parquet. Add one.")
    if set(found) not in ({"train"}, set(SPLITS)):
        raise InputError(f"finetune.data.path {place}: has {sorted(found)}; give train alone, or {', '.join(SPLITS)}.")
    parts = {name: _read(path) for name, path in found.items()}
    if set(parts) == {"train"}:
        return {"": parts["train"]}
    owners = {text: name for name in SPLITS[1:] for one in parts[name] for text in one.asked}
    for at, one in enumerate(parts["train"]):
        if leaks := [text for text in one.asked if text in owners]:
            raise InputError(
                f"{found['train']}, row {at + 1}: {leaks[0]!r:.60} is also in {found[owners[leaks[0]]]}, so the result "
                "would prove nothing. Remove it from one of them."
            )
    return parts


def _read(path: Path) -> list[Triplet]:
    """Return a file's examples, each checked."""
    if path.suffix not in rows.FORMATS:
        raise InputError(f"{path}: expected one of {', '.join(rows.FORMATS)}. Export it as one of them.")
    found = rows.read(path)
    negatives = [name for name in found[0] if name is not None and name.startswith("negative")]
    if missing := {"anchor", "positive"} - set(found[0]):
        raise InputError(f"{path}: has no column {' and '.join(sorted(missing))}. Expected {COLUMNS}.")
    seen: dict[tuple[str, str], int] = {}
    triplets = []
    for at, row in enumerate(found, start=1):
        for name in ("anchor", "positive", *negatives):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise InputError(
                    f"{path}, row {at}: {name} is {row.get(name)!r:.60}, expected text. Fill or remove it."
                )
        one = Triplet(row["anchor"], row["positive"], tuple(row[name] for name in negatives))
        if one.asked[1] in {one.asked[0], *map(plain, one.negatives)}:
            raise InputError(f"{path}, row {at}: the positive is also the anchor or a negative. Correct it.")
        if (first := seen.setdefault(one.asked, at)) != at:
            raise InputError(f"{path}, row {at}: repeats row {first}. Remove one of them.")
        triplets.append(one)
    return triplets


def _share_out(parts: dict[str, list[Triplet]], config: ExampleSource, seed: int) -> None:
    """Split the examples under "" by group."""
    found = _grouped(parts.pop(""))
    groups = sorted({one.group for one in found})
    random.Random(seed).shuffle(groups)  # noqa: S311 - a sample, not a secret
    held_out, dev = (max(1, round(share * len(groups))) for share in (config.held_out, config.dev))
    sides = dict.fromkeys(groups, "train") | dict.fromkeys(groups[held_out : held_out + dev], "dev")
    sides |= dict.fromkeys(groups[:held_out], "held_out")
    parts |= {name: [one for one in found if sides[one.group] == name] for name in SPLITS}


def _grouped(found: Iterable[Triplet]) -> list[Triplet]:
    """Return examples without a group in one with all that share a text with them."""
    found = list(found)
    above: dict[str, str] = {}

    def top(text: str) -> str:
        while above.setdefault(text, text) != text:
            text = above[text]
        return text

    for one in found:
        anchor, positive = one.asked
        above[top(anchor)] = top(positive)
    return [one if one.group else replace(one, group=top(one.asked[0])) for one in found]


def longer(triplets: Sequence[Triplet], base: Path, tokens: int) -> tuple[int, int]:
    """Return how many texts of examples are longer than so many tokens, and how many there are."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = list(dict.fromkeys(text for one in triplets for text in (one.anchor, one.positive, *one.negatives)))
    return sum(len(found.ids) > tokens for found in tokenizer.encode_batch(texts)), len(texts)


def columns(triplets: Sequence[Triplet]) -> dict[str, list[str]]:
    """Return examples as the trainer's columns: anchor, positive, negative_1 … as many as all have."""
    table = {"anchor": [one.anchor for one in triplets], "positive": [one.positive for one in triplets]}
    for at in range(min(len(one.negatives) for one in triplets)):
        table[f"negative_{at + 1}"] = [one.negatives[at] for one in triplets]
    return table
