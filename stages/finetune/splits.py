"""Splitting examples into train, dev and held-out so that no text is on two sides."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.config.finetune import ExampleSource
from stages.common.contract.tables import write_json_lines
from stages.finetune.suite_texts import SuiteTexts
from stages.finetune.triplet_files import read_splits
from stages.finetune.triplets import Triplet, load_botocore_examples

SPLITS = ("train", "dev", "held_out")
# Fewer examples would make a step of one batch, or an interval that says nothing.
MINIMUM = {"train": 16, "dev": 4, "held_out": 8}


@dataclass(frozen=True)
class Splits:
    """Examples by purpose.

    Attributes:
        train: what is trained on.
        dev: what chooses the checkpoint.
        held_out: what proves the gain.
        dropped: reason -> number of examples that were left out.
    """

    train: list[Triplet]
    dev: list[Triplet]
    held_out: list[Triplet]
    dropped: dict[str, int]

    @property
    def parts(self) -> dict[str, list[Triplet]]:
        """Return name -> examples of each split."""
        return {"train": self.train, "dev": self.dev, "held_out": self.held_out}

    def write(self, folder: Path) -> None:
        """Write each split as JSON lines."""
        for name, triplets in self.parts.items():
            write_json_lines(folder / f"{name}.jsonl", [asdict(triplet) for triplet in triplets])


def split_examples(
    config: ExampleSource, seed: int, suite: Path, from_documents: Sequence[Triplet] | None = None
) -> Splits:
    """Return the examples of a source, split by group, without texts that the suite measures.

    Args:
        config: source and shares.
        seed: of the split and the order.
        suite: data/, whose texts are kept out of train and dev.
        from_documents: examples made of documents, for source=documents.

    Raises:
        InputError: a file is malformed, or too few examples are left.
    """
    if config.source == "triplets":
        parts = read_splits(Path(str(config.path)).expanduser(), SPLITS)
    else:
        parts = {"train": load_botocore_examples() if from_documents is None else list(from_documents)}
    if set(parts) == {"train"}:
        parts = _split_by_group(parts["train"], config, seed)
    parts, dropped = _drop_leaks(parts, suite)
    for triplets in parts.values():
        random.Random(seed).shuffle(triplets)  # noqa: S311 - a sample, not a secret
    if config.examples and (beyond := len(parts["train"]) - config.examples) > 0:
        parts["train"], dropped = parts["train"][: config.examples], dropped | {"train: over data.examples": beyond}
    for name, minimum in MINIMUM.items():
        if len(parts[name]) < minimum:
            raise InputError(
                f"finetune: {len(parts[name])} examples in {name}, expected at least {minimum} (left out: "
                f"{dropped or 'none'}). Add data, or change finetune.data.dev and held_out."
            )
    return Splits(**parts, dropped=dropped)


def _drop_leaks(parts: dict[str, list[Triplet]], suite: Path) -> tuple[dict[str, list[Triplet]], dict[str, int]]:
    """Return the sorted examples that stay in each split, and reason -> number of those that do not.

    A text in two splits stays in the later one: what proves is kept, what trains gives way.
    """
    dropped: Counter[str] = Counter()
    suite_texts = SuiteTexts(suite)
    clean: dict[str, list[Triplet]] = {}
    later_texts: set[str] = set()
    for name in reversed(SPLITS):
        clean[name] = []
        for triplet in sorted(parts[name], key=lambda triplet: (triplet.key, triplet.negatives)):
            if later_texts & set(triplet.key):
                dropped[f"{name}: also in a later split"] += 1
            elif name != "held_out" and any(text in suite_texts for text in triplet.key):
                dropped[f"{name}: in the suite"] += 1
            else:
                clean[name].append(triplet)
        later_texts |= {text for triplet in clean[name] for text in triplet.key}
    return clean, dict(sorted(dropped.items()))


def _split_by_group(triplets: Iterable[Triplet], config: ExampleSource, seed: int) -> dict[str, list[Triplet]]:
    """Return split -> examples, with every group on one side."""
    triplets = _assign_groups(list(triplets))
    groups = sorted({triplet.group for triplet in triplets})
    random.Random(seed).shuffle(groups)  # noqa: S311 - a sample, not a secret
    held_out, dev = (max(1, round(share * len(groups))) for share in (config.held_out, config.dev))
    sides = dict.fromkeys(groups, "train") | dict.fromkeys(groups[held_out : held_out + dev], "dev")
    sides |= dict.fromkeys(groups[:held_out], "held_out")
    return {name: [triplet for triplet in triplets if sides[triplet.group] == name] for name in SPLITS}


def _assign_groups(triplets: list[Triplet]) -> list[Triplet]:
    """Return examples in which those without a group share one with all that share a text with them."""
    parents: dict[str, str] = {}

    def find_root(text: str) -> str:
        while parents.setdefault(text, text) != text:
            text = parents[text]
        return text

    for triplet in triplets:
        anchor, positive = triplet.key
        parents[find_root(anchor)] = find_root(positive)
    return [triplet if triplet.group else replace(triplet, group=find_root(triplet.key[0])) for triplet in triplets]
