"""The loss: every anchor must find its positive among all texts of a batch, of which only real contrasts compete.

Several questions on one passage, an anchor with several positives, and rows with unequal numbers of negatives are
normal. So no example is kept out of a batch; instead the loss knows each text and leaves these out of the competition:
other answers to an anchor, the anchor itself, a text's repeats, and the fillers of rows that have fewer negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank, get_world_size

from stages.finetune.triplets import Triplet, normalize_text

# What a filler's or padding row's texts have in place of a number.
ABSENT = -1


@dataclass(frozen=True)
class TextTable:
    """The texts of all examples, by number.

    Attributes:
        numbers: int64 [examples + 1, 1 + columns]: of each example's anchor, positive and negatives, ABSENT where it
            has fewer; the last row has none, for padding.
        answers: int64 [pairs], sorted: anchor * texts + text for each text that must not compete for an anchor.
        texts: how many different texts there are.
    """

    numbers: torch.Tensor
    answers: torch.Tensor
    texts: int

    def exclude(self, anchors: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        """Return which documents do not compete for an anchor: bool [anchors, documents].

        Args:
            anchors: numbers of texts.
            documents: likewise, ABSENT for a filler.
        """
        first: dict[int, int] = {}
        repeated = [first.setdefault(number, column) != column for column, number in enumerate(documents.tolist())]
        known = torch.isin(anchors[:, None] * self.texts + documents[None, :], self.answers)
        return known | (documents < 0) | torch.tensor(repeated)


def build_table(triplets: Sequence[Triplet]) -> TextTable:
    """Return the table of examples; texts that differ in case or white space alone are one."""
    numbers: dict[str, int] = {}

    def number_of(text: str) -> int:
        return numbers.setdefault(normalize_text(text), len(numbers))

    width = 2 + max((len(triplet.negatives) for triplet in triplets), default=0)
    rows = [[number_of(text) for text in (item.anchor, item.positive, *item.negatives)] for item in triplets]
    padded = [row + [ABSENT] * (width - len(row)) for row in [*rows, []]]
    pairs = {(row[0], text) for row in rows for text in row[:2]}
    answers = sorted(anchor * len(numbers) + text for anchor, text in pairs)
    return TextTable(torch.tensor(padded), torch.tensor(answers), len(numbers))


def build_columns(triplets: Sequence[Triplet], start: int = 0, *, padding: bool = False) -> dict[str, list[object]]:
    """Return examples as the trainer's columns: anchor, positive, negative_1 …, and label, the row in the table.

    A row that has fewer negatives than another gets a filler, the shortest text, which does not compete.

    Args:
        triplets: the examples.
        start: the table's row of the first one.
        padding: whether a last row is added, with which a batch is filled up to equal parts.
    """
    width = max(len(triplet.negatives) for triplet in triplets)
    filler = min((text for triplet in triplets for text in (triplet.anchor, triplet.positive)), key=len)
    rows = [
        (item.anchor, item.positive, *item.negatives, *[filler] * (width - len(item.negatives))) for item in triplets
    ]
    rows += [(filler,) * (2 + width)] if padding else []
    names = ["anchor", "positive", *(f"negative_{index + 1}" for index in range(width))]
    columns: dict[str, list[object]] = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    return columns | {"label": [*range(start, start + len(triplets)), *([ABSENT] if padding else [])]}


class ContrastiveLoss(CachedMultipleNegativesRankingLoss):  # type: ignore[misc]  # no types
    """CachedMultipleNegativesRankingLoss in which only real contrasts compete; labels are rows of the table.

    Args:
        model: the model.
        mini_batch_size: texts that are embedded at once.
        table: the texts of all examples.
    """

    def __init__(self, model: SentenceTransformer, mini_batch_size: int, table: TextTable) -> None:
        super().__init__(model, mini_batch_size=mini_batch_size)
        self.table = table

    def calculate_loss(
        self, reps: list[list[torch.Tensor]], labels: torch.Tensor | None = None, *, with_backward: bool = False
    ) -> torch.Tensor:
        """Return the mean over the batch's examples, of all ranks if they share it, of cross-entropy.

        Args:
            reps: vectors of the anchors, positives and negatives of this rank's part, in mini-batches.
            labels: each example's row of the table, or ABSENT for padding.
            with_backward: whether the gradients are computed here.

        Raises:
            ValueError: there are no labels.
        """
        if labels is None:
            raise ValueError("labels are the examples' rows of the table; the dataset has no column for them")
        queries, columns = torch.cat(reps[0]), [torch.cat(parts) for parts in reps[1:]]
        local = labels.long()
        rows, offset, ranks = local, 0, 1
        if self.gather_across_devices:
            columns = [all_gather_with_grad(column) for column in columns]
            rows, ranks = all_gather(local), get_world_size()
            offset = get_rank() * len(local)
        numbers = self.table.numbers
        documents = numbers[rows.cpu(), 1 : 1 + len(columns)].T.reshape(-1)
        excluded = self.table.exclude(numbers[local.cpu(), 0], documents).to(queries.device)
        own = torch.arange(len(local), device=queries.device)
        excluded[own, offset + own] = False
        # Ranks' gradients are averaged, so each rank's share of the batch's mean counts as often as there are ranks.
        weights = (local >= 0) * (ranks / int((rows >= 0).sum()))
        candidates, total = torch.cat(columns), queries.new_zeros(())
        for begin in range(0, len(local), self.mini_batch_size):
            part = slice(begin, begin + self.mini_batch_size)
            scores = self.similarity_fct(queries[part], candidates) * self.scale
            scores = scores.masked_fill(excluded[part], -torch.inf)
            losses = torch.nn.functional.cross_entropy(scores, offset + own[part], reduction="none")
            loss = (losses * weights[part]).sum()
            if with_backward:
                loss.backward()
                loss = loss.detach()
            total = total + loss
        return total
