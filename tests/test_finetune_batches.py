"""finetune: every example is trained on, and only real contrasts compete, whatever the data repeat or lack."""

from itertools import chain

import pytest
import torch
from datasets import Dataset

from stages.finetune.batches import EvenBatches, count_untrained
from stages.finetune.contrast import ABSENT, ContrastiveLoss, build_columns, build_table
from stages.finetune.triplets import Triplet

PASSAGES, QUESTIONS = 20, 10
MANY = [Triplet(f"question {p}-{q}", f"passage {p}") for p in range(PASSAGES) for q in range(QUESTIONS)]


def batches(count, batch_size, ranks=1, epoch=0):
    """Return each rank's batches of examples that are all different."""
    examples = [Triplet(f"anchor {number}", f"positive {number}") for number in range(count)]
    dataset = Dataset.from_dict(build_columns(examples, padding=ranks > 1))
    parts = []
    for rank in range(ranks):
        sampler = EvenBatches(dataset, batch_size, torch.Generator(), 0, rank, ranks)
        sampler.set_epoch(epoch)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    return parts


@pytest.mark.parametrize(("count", "batch_size"), [(200, 64), (65, 64), (64, 64), (16, 64), (17, 2), (1000, 96)])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_example_is_in_one_batch_of_an_epoch(count, batch_size, ranks):
    parts = batches(count, batch_size, ranks)
    whole = [list(chain(*step)) for step in zip(*parts, strict=True)]
    real = [[row for row in batch if row < count] for batch in whole]
    assert sorted(chain(*real)) == list(range(count))
    assert max(map(len, real)) <= batch_size
    assert max(map(len, real)) - min(map(len, real)) <= 1, "none is nearly alone at the end"
    assert all(len({len(part) for part in step}) == 1 for step in zip(*parts, strict=True)), "equal parts"
    assert all(row == count for row in chain(*whole) if row >= count), "only the padding row fills up"
    assert whole != [list(chain(*step)) for step in zip(*batches(count, batch_size, ranks, epoch=1), strict=True)]


def test_what_an_early_end_leaves_untrained_is_counted():
    assert count_untrained(200, 64, 4) == count_untrained(200, 64, 9) == 0
    assert count_untrained(200, 64, 3) == 50
    assert count_untrained(65, 64, 1) == 33


def competing(examples, batch):
    """Return for each anchor of a batch the texts that compete with its positive."""
    table, columns = build_table(examples), build_columns(examples)
    names = [name for name in columns if name not in ("anchor", "label")]
    rows = torch.tensor(batch)
    documents = table.numbers[rows, 1 : 1 + len(names)].T.reshape(-1)
    excluded = table.exclude(table.numbers[rows, 0], documents)
    texts = [columns[name][row] for name in names for row in batch]
    return [[text for text, out in zip(texts, line, strict=True) if not out] for line in excluded.tolist()]


def test_a_passage_competes_once_and_never_with_its_own_questions():
    for row, texts in zip(range(64), competing(MANY, range(64)), strict=True):
        assert sorted(texts) == sorted({item.positive for item in MANY[:64]} - {MANY[row].positive})


def test_other_answers_fillers_and_the_anchor_itself_do_not_compete():
    examples = [
        Triplet("a", "first answer", ("wrong",)),
        Triplet("A ", "second answer"),
        Triplet("b", "a"),
        Triplet("c", "third", ("wrong", "first answer")),
    ]
    texts = competing(examples, [0, 2, 3])
    assert sorted(texts[0]) == ["third", "wrong"], "neither itself nor an answer that stands as another row's negative"
    assert sorted(texts[1]) == ["first answer", "third", "wrong"]
    assert sorted(texts[2]) == ["a", "first answer", "wrong"]
    assert sorted(competing(examples, [1, 3])[0]) == ["third", "wrong"], "an answer that no row of the batch gives it"


class OneVector(torch.nn.Module):
    """Stands in for a model whose vectors the test has itself."""

    def __getitem__(self, _):
        return self


def loss_of(examples, batch, vectors):
    loss = ContrastiveLoss(OneVector(), 2, build_table(examples))
    columns = build_columns(examples)
    names = [name for name in columns if name != "label"]
    reps = [[torch.stack([vectors[columns[name][row]] for row in batch])] for name in names]
    return float(loss.calculate_loss(reps, torch.tensor([columns["label"][row] for row in batch])))


def test_the_loss_is_cross_entropy_over_what_competes():
    examples = [Triplet("q1", "p", ("n",)), Triplet("q2", "p"), Triplet("q3", "r")]
    generator = torch.Generator().manual_seed(0)
    texts = ["q1", "q2", "q3", "p", "n", "r"]
    vectors = dict(zip(texts, torch.nn.functional.normalize(torch.randn(6, 4, generator=generator)), strict=True))
    expected = []
    for anchor, right, others in (("q1", "p", "rn"), ("q2", "p", "rn"), ("q3", "r", "pn")):
        scores = torch.stack([vectors[anchor] @ vectors[text] * 20 for text in (right, *others)])
        expected.append(float(-scores.log_softmax(0)[0]))
    assert loss_of(examples, [0, 1, 2], vectors) == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_padding_weighs_nothing():
    examples = [Triplet("q1", "p"), Triplet("q2", "r")]
    generator = torch.Generator().manual_seed(0)
    loss = ContrastiveLoss(OneVector(), 2, build_table(examples))
    anchors, positives = torch.randn(3, 4, generator=generator), torch.randn(3, 4, generator=generator)
    padded = loss.calculate_loss([[anchors], [positives]], torch.tensor([0, 1, ABSENT]))
    assert float(padded) == pytest.approx(
        float(loss.calculate_loss([[anchors[:2]], [positives[:2]]], torch.tensor([0, 1])))
    )
