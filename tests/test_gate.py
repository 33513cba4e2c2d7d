"""gate: a variant passes only if each limit is met by a finite measured value; everything else fails, with a reason."""

import copy
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stages import gate
from stages.common.config import Limits
from stages.common.limits import spec_of
from stages.common.records.scores import Compatibility
from stages.common.records.verdict import Check
from stages.gate import spaces
from stages.gate.decision import CROWDED_REASON
from stages.gate.judge import check_value
from support.gate_facts import ABSENT, EXACT, GOOD, assess, change, decide, judge, target

CHECKS = 23  # STS has two tasks, each judged by itself; Retrieval is judged at two dimensions


def test_a_value_exactly_on_its_limit_passes():
    verdict = judge(GOOD)
    assert (verdict.passes, verdict.reasons) == (True, [])
    assert len(verdict.checks) == CHECKS
    loose = [check.on for check in verdict.checks if check.margin != 0.0]
    assert loose == ["Rank"], "the score floor of STS is the lesser of its two tasks"


# What is measured -> a value just outside of the limit, the limit's name, what it is judged on.
OUTSIDE = {
    "size_mb": (20.001, "size_mb_max", ""),
    "parity.cosine_mean": (0.98999, "cosine_mean_min", ""),
    "parity.cosine_min": (0.94999, "cosine_min_min", ""),
    "parity.batch_shift_max": (0.01001, "batch_shift_max", ""),
    "parity.median_cosine_shift": (0.02001, "median_cosine_shift_max", ""),
    "retention.384.Find.low": (0.99999, "retention_min", "Find"),
    "retention.384.Rate.low": (0.99999, "retention_min", "Rate"),
    "quality.384.Find.main_score": (0.59999, "score_min", "Find"),
    "quality.384.Sort.main_score": (0.79999, "score_min", "Sort"),
    "latency.lengths.32.speedup.low": (1.99, "speedup_min", "32 tokens"),
    "latency.lengths.128.speedup.low": (1.49, "speedup_min", "128 tokens"),
    "latency.batch.speedup.low": (1.19, "batch_speedup_min", "32 x 128 tokens"),
    "latency.peak_rss_mb": (300.1, "peak_rss_mb_max", ""),
    "latency.cold_start_s.median": (2.01, "cold_start_s_max", ""),
}


BESIDE_BASELINE = {"size_mb_max": ["size_ratio_max"], "peak_rss_mb_max": ["peak_rss_over_baseline_mb_max"]}


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_value_outside_its_limit_fails_with_value_limit_and_a_negative_margin(path):
    value, limit, on = OUTSIDE[path]
    verdict = judge(change(path, value))
    missed = {(check.limit, check.on): check for check in verdict.checks if not check.passes}
    assert not verdict.passes
    assert missed[limit, on].margin < 0
    # Size and memory have two limits each, of their own and beside the baseline's.
    assert {name for name, _ in missed} <= {limit, *BESIDE_BASELINE.get(limit, ())}
    assert len(verdict.reasons) == len(missed)
    assert any(reason.startswith(f"{limit} {on}".strip()) and ", limit " in reason for reason in verdict.reasons)


MEASURED = [path for path in OUTSIDE if path != "size_mb"]
# What a variant with a vector space of its own has no figure of.
OPTIONAL = ("parity.cosine_mean", "parity.cosine_min", "parity.median_cosine_shift")


@pytest.mark.parametrize(
    ("path", "bad"),
    [(path, bad) for path in MEASURED for bad in (math.nan, math.inf, -math.inf)]
    + [(path, bad) for path in OPTIONAL for bad in (ABSENT, None)],
)
def test_what_is_missing_or_not_finite_fails(path, bad):
    verdict = judge(change(path, bad))
    assert not verdict.passes
    missed = [check for check in verdict.checks if not check.passes]
    assert missed
    assert all((check.value, check.margin) == (None, None) for check in missed)
    assert all("not measured" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("bad", ["0.99", True, [1], None, ABSENT])
@pytest.mark.parametrize("path", [path for path in MEASURED if not path.startswith("retention")])
def test_what_is_no_number_is_not_even_read(path, bad):
    if path not in OPTIONAL or bad not in (None, ABSENT):
        with pytest.raises(ValidationError):
            assess(change(path, bad))


@pytest.mark.parametrize(
    ("path", "bad"), [("latency.lengths", ABSENT), ("parity", {}), ("quality", {"384": {"Find": {}}})]
)
def test_an_incomplete_record_is_not_even_read(path, bad):
    with pytest.raises(ValidationError):
        assess(change(path, bad))


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limit", ["size_mb_max", "cosine_min_min"])
def test_a_check_passes_on_finite_values_only(limit, value):
    check = check_value(spec_of(limit), "", 1.0, value)
    assert check.note.startswith("not measured")
    assert check == Check(limit=limit, on="", bound=1.0, value=None, margin=None, verdict="fail", note=check.note)


@pytest.mark.parametrize("path", ["quality.384.Find", "quality.384", "latency.lengths.32", "retention.384.Find"])
def test_a_missing_part_fails(path):
    assert not judge(change(path, ABSENT)).passes


@pytest.mark.parametrize("part", ["parity", "quality", "latency"])
def test_a_part_that_failed_fails_the_variant_even_without_limits(part):
    verdict = judge(change(part, {"error": "vectors are not finite"}), limits={})
    assert not verdict.passes
    assert verdict.reasons[0] == f"{part}: vectors are not finite"


def test_quality_is_judged_at_the_variants_own_full_dimension():
    verdict = judge(change("dimensions", 128), {"score_min": {"Retrieval": 0.4}})
    assert [check.value for check in verdict.checks if check.limit == "score_min"] == [0.4]
    assert verdict.passes


def test_default_limits_hold_for_variants_without_their_own():
    limits = {"default": Limits(size_mb_max=10), "it": Limits(size_mb_max=30)}
    aim = target().model_copy(update={"limits": limits})
    verdict = decide(aim, "fp32", {"fp32": GOOD, "it": GOOD, "other": GOOD})
    assert {name: judged.passes for name, judged in verdict.variants.items()} == {
        "fp32": False,
        "it": True,
        "other": False,
    }


def test_the_release_needs_its_number_of_candidates_in_the_targets_order():
    figures = {"fp32": GOOD, "a": GOOD, "b": change("size_mb", 99.0), "c": GOOD, "bystander": GOOD}
    limits = {"default": Limits(size_mb_max=20)}

    def release(candidates: tuple[str, ...], required: int) -> tuple[bool, list[str], str]:
        aim = target({}, candidates, required).model_copy(update={"limits": limits})
        verdict = decide(aim, "fp32", figures)
        assert verdict.variants["bystander"].candidate is False
        return verdict.release.passes, verdict.release.passing, verdict.release.reason

    assert release(("c", "b", "a"), 2) == (True, ["c", "a"], "2 candidates pass (2 required): c, a")
    assert release(("c", "b", "a"), 3) == (
        False,
        ["c", "a"],
        "2 candidates pass (3 required): c, a; not passing: b",
    )
    assert release(("b",), 1) == (False, [], "0 candidates pass (1 required); not passing: b")
    assert release(("never_built", "a"), 1) == (True, ["a"], "1 candidate passes (1 required): a")
    assert release(("never_built", "a"), 2)[:2] == (False, ["a"])


def test_decide_is_pure():
    figures = {"fp32": assess(), "it": assess()}
    before = copy.deepcopy(figures)
    first = gate.decide(target(), "fp32", "0" * 64, figures)
    assert figures == before
    assert gate.decide(target(), "fp32", "0" * 64, figures) == first


def test_better_values_and_looser_limits_never_fail_what_passed():
    """Random figures and limits: moving any one value or limit to the good side keeps a pass a pass."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(400):
        figures, limits = copy.deepcopy(GOOD), copy.deepcopy(EXACT)
        for path in OUTSIDE:  # near the limits, so that both outcomes happen
            figures = change(path, value_at(figures, path) * (1 + rng.normal(0.012, 0.01) * better(path)), figures)
        before = judge(figures, limits).passes
        passed += before
        path = rng.choice(list(OUTSIDE))
        improved = change(path, value_at(figures, path) * (1 + abs(rng.normal(0, 0.1)) * better(path)), figures)
        name = rng.choice(["size_mb_max", "cosine_min_min", "peak_rss_mb_max", "cold_start_s_max"])
        looser = limits | {name: limits[name] * (1.1 if name.endswith("_max") else 0.9)}
        if before:
            assert judge(improved, limits).passes, path
            assert judge(figures, looser).passes, name
    assert 40 < passed < 360, "the sweep saw one outcome only"


def value_at(figures: Any, path: str) -> float:
    for part in path.split("."):
        figures = figures[part]
    return figures


def better(path: str) -> int:
    return (
        -1
        if path
        in (
            "size_mb",
            "parity.batch_shift_max",
            "parity.median_cosine_shift",
            "latency.peak_rss_mb",
            "latency.cold_start_s.median",
        )
        else 1
    )


CROWDED = GOOD | {"crowded": True}


def test_a_crowded_run_judges_no_speedup_and_says_what_to_do():
    figures = {"base": GOOD, "it": CROWDED}
    verdict = decide(target(EXACT), "base", figures).variants["it"]
    assert not verdict.passes
    assert CROWDED_REASON in verdict.reasons
    assert {check.limit for check in verdict.checks if not check.passes} == {"speedup_min", "batch_speedup_min"}
    without = decide(target({"size_mb_max": 20}), "base", figures).variants["it"]
    assert without.passes, "limits that need no timing are judged all the same"


@pytest.mark.parametrize("limits", [{"batch_speedup_min": 1.0}, {"speedup_min": {32: 1.0}}])
def test_a_crowded_run_says_why_of_every_speedup_limit(limits):
    verdict = judge(CROWDED, limits)
    assert not verdict.passes
    assert verdict.reasons[0] == CROWDED_REASON
    (reason,) = verdict.reasons[1:]
    assert reason.endswith("limit 1: not judged, other processes took the CPUs while latency was measured")


@pytest.mark.parametrize(
    ("mixed", "shares"),
    [((0.60, 0.59), True), ((0.57, 0.57), True), ((0.60, 0.56), False), ((0.56, 0.60), False), ((None, 0.6), False)],
)
def test_a_variant_shares_a_space_if_mixed_indexes_rank_both_ways(mixed, shares):
    ndcg = {("fp32", "fp32"): 0.6, ("it", "fp32"): mixed[0], ("fp32", "it"): mixed[1]}
    pairs = {"fp32": {}, "it": {}}
    for (asking, holding), value in ndcg.items():
        if value is not None:
            pairs[asking][holding] = {"ndcg_at_10": value, "recall_at_10": 0.7, "overlap_at_10": 0.9}
    compatibility = Compatibility.model_validate({"Find": pairs})
    confirmed = spaces.confirm({"fp32": "a", "it": "a", "other": "b"}, "fp32", compatibility, 0.95)
    assert confirmed["fp32"] == spaces.Space("a")
    assert confirmed["other"] == spaces.Space("b"), "a space of its own is not compared"
    assert confirmed["it"].space_id == ("a" if shares else "a-it")
    assert bool(confirmed["it"].alone) is not shares
    assert all("at least 95 % are needed to share an index" in reason for reason in confirmed["it"].alone)


def test_a_variant_that_cannot_share_an_index_ships_with_a_space_of_its_own():
    figures = GOOD | {"space_id": "a-it", "alone": ["Find: …"]}
    verdict = decide(target(), "fp32", {"fp32": GOOD, "it": figures})
    assert verdict.variants["it"].space_id == "a-it"
    assert verdict.release.passes, "it may ship; nothing swaps it for another"


def test_times_without_the_targets_quota_decide_nothing():
    figures = GOOD | {"unenforced": "the target's quota of 0.5 CPUs could not be enforced on this machine (…)"}
    limits = {"speedup_min": {32: 1.0}, "cold_start_s_max": 10, "size_mb_max": 20}
    verdict = judge(figures, limits)
    assert (verdict.passes, verdict.inconclusive) == (False, True)
    assert {check.limit for check in verdict.checks if check.passes} == {"size_mb_max", "peak_rss_mb_max"}
    assert all(reason.endswith("could not be enforced on this machine (…)") for reason in verdict.reasons)


def test_a_speedup_that_might_be_less_than_its_limit_is_not_passed():
    figures = change("latency.lengths.32.speedup", {"median": 2.0, "low": 1.8, "high": 2.2})
    verdict = judge(figures, {"speedup_min": {32: 1.9}})
    assert verdict.inconclusive
    assert (
        "2, between 1.8 and 2.2 by 60 samples, limit 1.9: inconclusive, about 240 samples would decide"
        in (verdict.reasons[0])
    )


@pytest.mark.parametrize(
    ("limits", "bound"), [({}, 4096), ({"peak_rss_mb_max": 300}, 300), ({"peak_rss_mb_max": 9000}, 4096)]
)
def test_what_exceeds_the_targets_memory_does_not_ship(limits, bound):
    (check,) = judge(change("latency.peak_rss_mb", bound), limits).checks
    assert (check.bound, check.passes) == (bound, True)
    assert not judge(change("latency.peak_rss_mb", bound + 0.1), limits).passes
