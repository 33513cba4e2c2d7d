"""Batches in which every example is trained on once an epoch, in one process or in several."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

from stages.finetune.contrast import ABSENT


class EvenBatches(DefaultBatchSampler):  # type: ignore[misc]  # no types
    """Every example once an epoch in a seeded order, in as few batches as possible, whose sizes differ by one at most.

    With several ranks, each gets an equal part of every batch. Where a batch cannot be divided, the dataset's last row,
    whose label is ABSENT, fills it up.

    Args:
        dataset: the examples; with several ranks, a last row for padding.
        batch_size: the most examples in a batch.
        generator: of the order.
        seed: of the order, to which the epoch is added.
        rank: of this process.
        ranks: how many processes share a batch.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, generator: torch.Generator, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(dataset, batch_size, drop_last=False, generator=generator, seed=seed)
        self.examples = sum(label != ABSENT for label in dataset["label"])
        self.rank, self.ranks = rank, ranks
        self.total_rows = len(dataset)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's part of each batch, as rows of the dataset."""
        self.generator.manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.examples, generator=self.generator).tolist()
        for batch in split_evenly(order, self.batch_size):
            part = -(-len(batch) // self.ranks)
            padded = [*batch, *[self.total_rows - 1] * (part * self.ranks - len(batch))]
            yield padded[self.rank * part : (self.rank + 1) * part]

    def __len__(self) -> int:
        """Return how many batches there are in an epoch."""
        batches: int = -(-self.examples // self.batch_size)
        return batches


def split_evenly(order: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """Return an order in as few batches as possible, whose sizes differ by one at most."""
    count = -(-len(order) // batch_size)
    bounds = [len(order) * index // count for index in range(count + 1)]
    return [order[begin:end] for begin, end in pairwise(bounds)]


def count_untrained(examples: int, batch_size: int, steps: int) -> int:
    """Return how many examples training had not reached once when it ended after so many steps."""
    return sum(map(len, split_evenly(range(examples), batch_size)[steps:]))
