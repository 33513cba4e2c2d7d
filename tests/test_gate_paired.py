"""Bounds of paired score ratios: right statistics, honest widths, and a verdict that says when n is too small."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from stages.common.config import Gate
from stages.common.limits import RatioBounds, spec_of
from stages.gate import paired
from stages.gate.judge import check_ratio, describe

GATE = Gate(confidence=0.95, resamples=2000, seed=0, mixed_index_min=0.95)


NARROW = RatioBounds(estimate=0.97, low=0.95, high=0.985, samples=400)
RETENTION = spec_of("retention_min")


def bound_ratios(columns, task="task", config=GATE, estimate=1.0):
    samples = {name: {"default": values} for name, values in columns.items()}
    return paired.bound_ratios(config, task, samples, "fp32", dict.fromkeys(columns, estimate))


@pytest.mark.parametrize("seed", range(5))
def test_statistics_are_those_of_the_sample_in_which_values_repeat(seed):
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=3).astype(float)
    cosine, gold = rng.normal(size=40).round(1), rng.integers(0, 6, 40).astype(float)
    label = rng.integers(0, 2, 40).astype(float)
    label[:2] = 0, 1
    score = rng.permutation(40).astype(float)
    spearman = paired.make_statistic({"cosine": cosine, "gold": gold})(weights)
    precision = paired.make_statistic({"cosine": score, "label": label})(weights)
    mean = paired.make_statistic({"ndcg_at_10": cosine})(weights)
    for index, row in enumerate(weights.astype(int)):
        assert spearman[index] == pytest.approx(spearmanr(np.repeat(cosine, row), np.repeat(gold, row)).statistic)
        assert mean[index] == pytest.approx(np.repeat(cosine, row).mean())
        assert precision[index] == pytest.approx(average_precision_score(np.repeat(label, row), np.repeat(score, row)))


def test_columns_without_a_statistic_are_refused():
    with pytest.raises(ValueError, match=r"\['a', 'b'\] have no statistic"):
        paired.make_statistic({"a": [1.0], "b": [1.0]})


def test_a_variant_equal_to_the_baseline_keeps_exactly_all():
    values = list(np.random.default_rng(0).uniform(size=200))
    ratios = bound_ratios({"fp32": {"accuracy": values}, "it": {"accuracy": values}})
    assert ratios["it"] == RatioBounds(estimate=1.0, low=1.0, high=1.0, samples=200, se=0.0)


def test_the_lower_bound_covers_the_truth_as_often_as_it_says():
    """200 test sets of 150 queries, of a variant that truly keeps 95 %."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        base = rng.beta(2, 1, 150)
        mine = base - rng.normal(0.05 * 2 / 3, 0.2, 150)  # 2/3: the mean of the baseline
        config = GATE.model_copy(update={"resamples": 1000, "seed": seed})
        low = bound_ratios({"fp32": {"v": base}, "it": {"v": mine}}, config=config)["it"].low
        covered += low <= 0.95
    assert 0.90 <= covered / 200 <= 0.99


def test_pairing_tells_what_two_separate_intervals_could_not():
    """Queries differ far more than encoders do: paired, 1 % lost shows at n = 400."""
    rng = np.random.default_rng(0)
    base = rng.uniform(size=400)
    ratio = bound_ratios({"fp32": {"v": base}, "it": {"v": base * 0.99 + rng.normal(0, 0.01, 400)}})["it"]
    alone = base.std() / np.sqrt(400) / base.mean()
    assert ratio.high - ratio.low < alone / 5
    assert ratio.high < 1.0


def test_pairs_of_few_texts_are_less_evidence_than_as_many_of_different_texts():
    rng = np.random.default_rng(0)
    left, right = np.triu_indices(50, 1)
    gold, cosine = rng.normal(size=1225), rng.normal(size=1225)
    bias = rng.normal(size=50)  # a text that an encoder places badly spoils all its pairs
    columns = {
        "fp32": {"cosine": gold + cosine, "gold": gold},
        "it": {"cosine": gold + cosine + bias[left] + bias[right], "gold": gold},
    }
    numbered = {name: values | {"left": left, "right": right} for name, values in columns.items()}
    own = {"left": np.arange(1225) * 2, "right": np.arange(1225) * 2 + 1}
    fresh = {name: values | own for name, values in columns.items()}
    few, many = bound_ratios(numbered)["it"], bound_ratios(fresh)["it"]
    assert few.se > 1.5 * many.se
    assert many.se == pytest.approx(bound_ratios(columns)["it"].se)


def test_subsets_count_alike_whatever_their_size():
    rng = np.random.default_rng(0)
    big, small = rng.uniform(size=1000), rng.uniform(size=50)
    samples = {
        "fp32": {"de": {"v": big}, "fr": {"v": small}},
        "it": {"de": {"v": big}, "fr": {"v": small * 0.8}},
    }
    expected = (big.mean() + 0.8 * small.mean()) / (big.mean() + small.mean())
    ratio = paired.bound_ratios(GATE, "t", samples, "fp32", {"fp32": 1.0, "it": expected})["it"]
    assert ratio.low < ratio.estimate < ratio.high
    assert ratio.samples == 1050


def test_draws_follow_from_seed_and_task_alone():
    rng = np.random.default_rng(0)
    columns = {"fp32": {"v": rng.uniform(size=100)}, "it": {"v": rng.uniform(size=100)}}
    third = columns | {"another": {"v": rng.uniform(size=100)}}
    assert bound_ratios(columns)["it"] == bound_ratios(third)["it"]
    assert bound_ratios(columns)["it"] != bound_ratios(columns, task="other")["it"]
    assert bound_ratios(columns)["it"] != bound_ratios(columns, config=GATE.model_copy(update={"seed": 1}))["it"]


def test_different_samples_are_refused():
    with pytest.raises(ValueError, match=r"different numbers of samples: \[2, 3\]"):
        bound_ratios({"fp32": {"v": [1.0, 2.0]}, "it": {"v": [1.0, 2.0, 3.0]}})


def test_a_baseline_that_may_score_nothing_has_no_ratio():
    assert bound_ratios({"fp32": {"v": [0.0, 0.0, 1.0]}, "it": {"v": [1.0, 1.0, 1.0]}}) == {}


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [(0.90, "pass"), (0.95, "pass"), (0.96, "inconclusive"), (0.98, "inconclusive"), (0.99, "fail")],
)
def test_a_limit_between_the_bounds_is_inconclusive(bound, verdict):
    check = check_ratio(RETENTION, "Find", bound, NARROW)
    assert (check.verdict, check.passes) == (verdict, verdict == "pass")
    assert (check.needed is not None) == (verdict == "inconclusive")


def test_the_number_of_samples_it_asks_for_decides():
    rng = np.random.default_rng(3)

    def measure(count):
        base = rng.uniform(0.2, 1, count)
        columns = {"fp32": {"v": base}, "it": {"v": base * 0.97 + rng.normal(0, 0.2, count)}}
        return bound_ratios(columns, estimate=0.97)["it"]

    check = check_ratio(RETENTION, "Find", 0.95, measure(200))
    assert check.verdict == "inconclusive"
    assert 300 < check.needed < 20_000
    assert f"inconclusive, about {check.needed} samples would decide" in describe(check)
    assert check_ratio(RETENTION, "Find", 0.95, measure(2 * check.needed)).verdict == "pass"


def test_an_estimate_on_the_limit_asks_for_no_number():
    check = check_ratio(RETENTION, "Find", 0.97, NARROW)
    assert check.needed is None
    assert describe(check).endswith("inconclusive, the estimate lies on the limit")
