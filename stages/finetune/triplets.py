"""Training examples as triplets: an anchor, a positive, and negatives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.common.sources import aws
from stages.common.sources.base_model.layout import find_transformer


@dataclass(frozen=True)
class Triplet:
    """One example.

    Attributes:
        anchor: a question.
        positive: the text that answers it.
        negatives: texts that do not.
        group: examples of one group stay on one side of the split; "" if the group is not known yet.
    """

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    group: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Return the normalized anchor and positive, by which examples are compared."""
        return normalize_text(self.anchor), normalize_text(self.positive)


def normalize_text(text: str) -> str:
    """Return a text without differences in case and white space."""
    return " ".join(text.split()).casefold()


def load_botocore_examples() -> list[Triplet]:
    """Return botocore's operations: their first sentence and the rest of the text, grouped by service."""
    return [
        Triplet(operation.summary, operation.details, group=operation.service) for operation in aws.load_operations()
    ]


def count_long_texts(triplets: Sequence[Triplet], base: Path, tokens: int) -> tuple[int, int]:
    """Return how many texts of examples have more than `tokens` tokens, and how many texts there are."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(find_transformer(base)), local_files_only=True)
    texts = list(
        dict.fromkeys(text for triplet in triplets for text in (triplet.anchor, triplet.positive, *triplet.negatives))
    )
    ids = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    return sum(len(row) > tokens for row in ids), len(texts)
