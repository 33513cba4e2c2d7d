"""gate: a variant passes only if each limit is met by a finite measured value; everything else fails, with a reason."""

import copy
import math
from typing import Any

import numpy as np
import pytest

from stages import gate
from stages.common.config import Limits
from stages.gate import facts, spaces, stage
from stages.gate.judge import Check, check
from support import small_release
from support.gate_facts import ABSENT, EXACT, GOOD, changed, judged, target

CHECKS = 20  # STS has two tasks, each judged by itself; Retrieval is judged at two dimensions


def test_a_value_exactly_on_its_limit_passes():
    found = judged(GOOD)
    assert (found["passes"], found["reasons"]) == (True, [])
    assert len(found["checks"]) == CHECKS
    loose = [check["on"] for check in found["checks"] if check["margin"] != 0.0]
    assert loose == ["Rank"], "the score floor of STS is the lesser of its two tasks"


# What is measured -> a value just outside of the limit, the limit's name, what it is judged on.
OUTSIDE = {
    "size_mb": (20.001, "size_mb_max", ""),
    "parity.cosine_mean": (0.98999, "cosine_mean_min", ""),
    "parity.cosine_min": (0.94999, "cosine_min_min", ""),
    "parity.batch_shift_max": (0.01001, "batch_shift_max", ""),
    "parity.median_cosine_shift": (0.02001, "median_cosine_shift_max", ""),
    "paired.384.Find.low": (0.99999, "retention_min", "Find"),
    "paired.384.Rate.low": (0.99999, "retention_min", "Rate"),
    "quality.384.Find.main_score": (0.59999, "score_min", "Find"),
    "quality.384.Sort.main_score": (0.79999, "score_min", "Sort"),
    "latency.lengths.32.speedup.low": (1.99, "speedup_min", "32 tokens"),
    "latency.lengths.128.speedup.low": (1.49, "speedup_min", "128 tokens"),
    "latency.peak_rss_mb": (300.1, "peak_rss_mb_max", ""),
    "latency.cold_start_s.median": (2.01, "cold_start_s_max", ""),
}


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_value_outside_its_limit_fails_with_value_limit_and_a_negative_margin(path):
    value, limit, on = OUTSIDE[path]
    found = judged(changed(path, value))
    missed = {(check["limit"], check["on"]): check for check in found["checks"] if not check["passes"]}
    assert not found["passes"]
    assert missed[limit, on]["margin"] < 0
    assert len(found["reasons"]) == len(missed) == 1
    assert any(reason.startswith(f"{limit} {on}".strip()) and ", limit " in reason for reason in found["reasons"])


@pytest.mark.parametrize("bad", [ABSENT, None, math.nan, math.inf, -math.inf, "0.99", True, [1]])
@pytest.mark.parametrize("path", [path for path in OUTSIDE if path != "size_mb"])
def test_what_is_missing_or_no_finite_number_fails(path, bad):
    found = judged(changed(path, bad))
    assert not found["passes"]
    missed = [check for check in found["checks"] if not check["passes"]]
    assert missed
    assert all((check["value"], check["margin"]) == (None, None) for check in missed)
    assert all("not measured" in reason for reason in found["reasons"])


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limit", ["size_mb_max", "cosine_min_min"])
def test_a_check_passes_on_finite_values_only(limit, value):
    assert check(limit, "", 1.0, value) == Check(limit, "", 1.0, None, None, "fail")


@pytest.mark.parametrize("path", ["quality.384.Find", "quality.384", "latency.lengths.32", "latency.lengths", "parity"])
def test_a_missing_part_fails(path):
    fact = changed(path, {} if path == "parity" else ABSENT)
    assert not judged(fact)["passes"]


@pytest.mark.parametrize("part", ["parity", "quality", "latency"])
def test_a_part_that_failed_fails_the_variant_even_without_limits(part):
    found = judged(changed(part, {"error": "vectors are not finite"}), limits={})
    assert not found["passes"]
    assert found["reasons"][0] == f"{part}: vectors are not finite"


def test_a_dimension_that_was_scored_but_has_no_samples_fails_by_name():
    fact = changed("paired.128", ABSENT)
    found = judged(fact, {"retention_min": {"Retrieval": 0.9}})
    assert not found["passes"]
    (reason,) = found["reasons"]
    assert reason.startswith("retention_min Find@128: ")
    assert "no samples" in reason


def test_a_task_type_that_nobody_measured_fails():
    found = judged(GOOD, {"retention_min": {"Clustering": 0.1}, "score_min": {"BitextMining": 0.1}})
    assert [check["on"] for check in found["checks"] if not check["passes"]] == ["Clustering", "BitextMining"]
    assert not found["passes"]


@pytest.mark.parametrize("score", [0.0, -0.2, None])
def test_retention_of_a_baseline_without_a_positive_score_is_none(score):
    """Two negative scores would divide to a fine-looking ratio."""
    scores = {name: {"384": {"Find": {"type": "Retrieval", "main_score": score}}} for name in ("fp32", "it")}
    samples = {name: {"384": {"Find": {"default": {"value": [0.5, 0.6]}}}} for name in ("fp32", "it")}
    assert facts.compare(small_release.GATE, "fp32", {"fp32": "384", "it": "384"}, scores, samples) == {
        "fp32": {},
        "it": {},
    }


def test_quality_is_judged_at_the_variants_own_full_dimension():
    fact = changed("dimensions", 128)
    found = judged(fact, {"score_min": {"Retrieval": 0.4}})
    assert [check["value"] for check in found["checks"] if check["limit"] == "score_min"] == [0.4]
    assert found["passes"]


def test_default_limits_hold_for_variants_without_their_own():
    limits = {"default": Limits(size_mb_max=10), "it": Limits(size_mb_max=30)}
    aim = target().model_copy(update={"limits": limits})
    verdict = gate.decide(aim, "fp32", {"fp32": GOOD, "it": GOOD, "other": GOOD})
    assert {name: found["passes"] for name, found in verdict["variants"].items()} == {
        "fp32": False,
        "it": True,
        "other": False,
    }


def test_the_release_needs_its_number_of_candidates_in_the_targets_order():
    facts = {"fp32": GOOD, "a": GOOD, "b": changed("size_mb", 99.0), "c": GOOD, "bystander": GOOD}
    limits = {"default": Limits(size_mb_max=20)}

    def release(candidates: tuple[str, ...], required: int) -> tuple[bool, list[str]]:
        aim = target({}, candidates, required).model_copy(update={"limits": limits})
        verdict = gate.decide(aim, "fp32", facts)
        assert verdict["variants"]["bystander"]["candidate"] is False
        return verdict["release"]["passes"], verdict["release"]["passing"]

    assert release(("c", "b", "a"), 2) == (True, ["c", "a"])
    assert release(("c", "b", "a"), 3) == (False, ["c", "a"])
    assert release(("b",), 1) == (False, [])
    assert release(("never_built", "a"), 1) == (True, ["a"])
    assert release(("never_built", "a"), 2) == (False, ["a"])


def test_decide_is_pure():
    facts = {"fp32": copy.deepcopy(GOOD), "it": copy.deepcopy(GOOD)}
    first = gate.decide(target(), "fp32", facts)
    assert facts == {"fp32": GOOD, "it": GOOD}
    assert gate.decide(target(), "fp32", facts) == first


def test_better_values_and_looser_limits_never_fail_what_passed():
    """Random facts and limits: moving any one value or limit to the good side keeps a pass a pass."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(400):
        fact, limits = copy.deepcopy(GOOD), copy.deepcopy(EXACT)
        for path in OUTSIDE:  # near the limits, so that both outcomes happen
            fact = changed(path, value_at(fact, path) * (1 + rng.normal(0.012, 0.01) * better(path)), fact)
        before = judged(fact, limits)["passes"]
        passed += before
        path = rng.choice(list(OUTSIDE))
        improved = changed(path, value_at(fact, path) * (1 + abs(rng.normal(0, 0.1)) * better(path)), fact)
        name = rng.choice(["size_mb_max", "cosine_min_min", "peak_rss_mb_max", "cold_start_s_max"])
        looser = limits | {name: limits[name] * (1.1 if name.endswith("_max") else 0.9)}
        if before:
            assert judged(improved, limits)["passes"], path
            assert judged(fact, looser)["passes"], name
    assert 40 < passed < 360, "the sweep saw one outcome only"


def value_at(fact: Any, path: str) -> float:
    for part in path.split("."):
        fact = fact[part]
    return fact


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


def test_a_crowded_run_judges_no_speedup_and_says_what_to_do():
    facts = {"base": copy.deepcopy(GOOD), "it": copy.deepcopy(GOOD) | {"crowded": True}}
    verdict = gate.decide(target(EXACT), "base", facts)["variants"]["it"]
    assert not verdict["passes"]
    assert stage.CROWDED in verdict["reasons"]
    assert {check["limit"] for check in verdict["checks"] if not check["passes"]} == {"speedup_min"}
    without = gate.decide(target({"size_mb_max": 20}), "base", facts)["variants"]["it"]
    assert without["passes"], "limits that need no timing are judged all the same"


@pytest.mark.parametrize("limits", [{"batch_speedup_min": 1.0}, {"speedup_min": {32: 1.0}}])
def test_a_crowded_run_says_why_of_every_speedup_limit(limits):
    found = judged(GOOD | {"crowded": True}, limits)
    assert not found["passes"]
    assert stage.CROWDED in found["reasons"]


@pytest.mark.parametrize(
    ("mixed", "shares"),
    [((0.60, 0.59), True), ((0.57, 0.57), True), ((0.60, 0.56), False), ((0.56, 0.60), False), ((None, 0.6), False)],
)
def test_a_variant_shares_a_space_if_mixed_indexes_rank_both_ways(mixed, shares):
    asking, holding = ({"ndcg_at_10": value} for value in mixed)
    pairs = {"fp32": {"fp32": {"ndcg_at_10": 0.6}, "it": holding}, "it": {"fp32": asking}}
    found = spaces.confirm({"fp32": "a", "it": "a", "other": "b"}, "fp32", {"Find": pairs}, 0.95)
    assert found["fp32"] == ("a", [])
    assert found["other"] == ("b", []), "a space of its own is not compared"
    assert found["it"][0] == ("a" if shares else "a-it")
    assert bool(found["it"][1]) is not shares
    assert all("at least 95 % are needed to share an index" in reason for reason in found["it"][1])


def test_a_variant_that_cannot_share_an_index_ships_with_a_space_of_its_own():
    fact = GOOD | {"space_id": "a-it", "alone": ["Find: …"]}
    verdict = gate.decide(target(), "fp32", {"fp32": GOOD, "it": fact})
    assert verdict["variants"]["it"]["space_id"] == "a-it"
    assert verdict["release"]["passes"], "it may ship; nothing swaps it for another"


def test_times_without_the_targets_quota_decide_nothing():
    fact = GOOD | {"unenforced": "the target's quota of 0.5 CPUs could not be enforced on this machine (…)"}
    limits = {"speedup_min": {32: 1.0}, "cold_start_s_max": 10, "size_mb_max": 20}
    found = judged(fact, limits)
    assert (found["passes"], found["inconclusive"]) == (False, True)
    assert {check["limit"] for check in found["checks"] if check["passes"]} == {"size_mb_max", "peak_rss_mb_max"}
    assert all(reason.endswith("could not be enforced on this machine (…)") for reason in found["reasons"])


def test_a_speedup_that_might_be_less_than_its_limit_is_not_passed():
    fact = changed("latency.lengths.32.speedup", {"median": 2.0, "low": 1.8, "high": 2.2})
    found = judged(fact, {"speedup_min": {32: 1.9}})
    assert found["inconclusive"]
    assert (
        "2, between 1.8 and 2.2 by 60 samples, limit 1.9: inconclusive, about 240 samples would decide"
        in (found["reasons"][0])
    )


@pytest.mark.parametrize(
    ("asked", "bound"), [({}, 4096), ({"peak_rss_mb_max": 300}, 300), ({"peak_rss_mb_max": 9000}, 4096)]
)
def test_what_exceeds_the_targets_memory_does_not_ship(asked, bound):
    (check,) = judged(changed("latency.peak_rss_mb", bound), asked)["checks"]
    assert (check["bound"], check["passes"]) == (bound, True)
    assert not judged(changed("latency.peak_rss_mb", bound + 0.1), asked)["passes"]
