"""gate: every limit of the schema has a row in the table; one that finds no input fails and says what is missing."""

import pytest

from stages.common.config import Limits
from stages.common.limits import LIMITS
from stages.gate.assess import compare_scores
from support import small_release
from support.gate_facts import ABSENT, EXACT, GOOD, change, judge, make_evidence


def test_the_schema_and_the_table_of_limits_hold_each_other():
    assert set(Limits.model_fields) == {spec.name for spec in LIMITS} == set(EXACT)
    assert len(LIMITS) == len({spec.name for spec in LIMITS})
    for spec in LIMITS:
        assert spec.name.endswith(f"_{spec.direction}"), "the name tells users the direction"
        keys = {"": None, "task type": "Retrieval", "tokens": 32}[spec.per]
        limits = Limits(**{spec.name: 0.5 if keys is None else {keys: 0.5}})
        assert list(spec.bounds(limits)) == [(str(keys or ""), 0.5)]
        assert list(spec.bounds(Limits())) == []


FIND = {"retention_min": {"Retrieval": 0.9}}
# What is missing -> the limits that need it -> the reason.
WITHOUT_INPUT = {
    "samples of a dimension that was scored": (
        change("retention.128", ABSENT),
        FIND,
        "retention_min Find@128, limit 0.9: not measured, quality has no samples of it at 128 dimensions",
    ),
    "a dimension that the baseline was scored at": (
        change("retention.128", ABSENT, change("quality.128", ABSENT)),
        FIND,
        "retention_min Find@128, limit 0.9: not measured, it has no score at 128 dimensions",
    ),
    "a dimension of the baseline": (
        change("quality.256", GOOD["quality"]["128"]),
        FIND,
        "retention_min Find@256, limit 0.9: not measured, the baseline has no score at 256 dimensions",
    ),
    "a task": (
        change("quality.384.Find", ABSENT, change("retention.384.Find", ABSENT)),
        FIND,
        "retention_min Find, limit 0.9: not measured, it has no score at 384 dimensions",
    ),
    "the floor": (
        change("floor.Find", ABSENT),
        {"lead_min": {"Retrieval": 0.9}},
        "lead_min Find, limit 0.9: not measured, floor.json has no score",
    ),
    "a length": (
        GOOD,
        {"speedup_min": {64: 1.0}},
        "speedup_min 64 tokens, limit 1: not measured, latency timed 32, 128 tokens",
    ),
    "cosines": (
        change("parity.cosine_min", ABSENT),
        {"cosine_min_min": 0.9},
        "cosine_min_min, limit 0.9: not measured, variant.json has no such parity figure",
    ),
    "the whole task type": (
        GOOD,
        {"score_min": {"Clustering": 0.9}},
        "score_min Clustering, limit 0.9: not measured, the suite has no task of this type",
    ),
}


@pytest.mark.parametrize("case", WITHOUT_INPUT)
def test_a_limit_without_input_fails_and_says_what_is_missing(case):
    figures, limits, expected = WITHOUT_INPUT[case]
    verdict = judge(figures, limits)
    assert not verdict.passes
    (reason,) = verdict.reasons
    assert reason.startswith(expected)


def test_a_baseline_that_failed_is_named_as_what_is_missing():
    verdict = judge(GOOD, {"score_min": {"STS": 0.1}}, base=change("quality", {"error": "out of memory"}))
    assert verdict.reasons == ["score_min STS, limit 0.1: not measured, quality of the baseline failed"]


def test_a_task_that_the_baseline_alone_lacks_fails_and_is_named():
    base = change("quality.384.Find", ABSENT, change("quality.128", ABSENT))
    figures = change("retention", {}, change("quality.128", ABSENT))
    verdict = judge(figures, FIND | {"lead_min": {"Retrieval": 0.9}}, base)
    assert verdict.reasons == [
        "retention_min Find, limit 0.9: not measured, the baseline has no score at 384 dimensions",
        "lead_min Find, limit 0.9: not measured, the baseline has no score",
    ]


def test_a_dimension_that_the_variant_declares_and_nobody_scored_fails_and_is_named():
    bare = change("quality.128", ABSENT, change("retention.128", ABSENT)) | {"matryoshka": (384, 128)}
    verdict = judge(bare, FIND, bare)
    assert verdict.reasons == ["retention_min Find@128, limit 0.9: not measured, it has no score at 128 dimensions"]


def test_a_task_type_that_nobody_measured_fails():
    verdict = judge(GOOD, {"retention_min": {"Clustering": 0.1}, "score_min": {"BitextMining": 0.1}})
    assert [check.on for check in verdict.checks if not check.passes] == ["Clustering", "BitextMining"]
    assert not verdict.passes


SAMPLES = {
    length: {task: {"default": {"value": [0.5, 0.6]}} for task in tasks} for length, tasks in GOOD["quality"].items()
}


@pytest.mark.parametrize("score", [0.0, -0.2])
def test_retention_of_a_baseline_without_a_positive_score_is_none(score):
    """Two negative scores would divide to a fine-looking ratio."""
    figures = {"384": {"Find": GOOD["quality"]["384"]["Find"] | {"main_score": score}}}
    evidence = make_evidence(GOOD | {"quality": figures}, SAMPLES)
    assert compare_scores(small_release.GATE, "fp32", {"fp32": evidence, "it": evidence}) == {"fp32": {}, "it": {}}
    verdict = judge(change("retention", {}, GOOD | {"quality": figures}), FIND, base=change("quality", figures))
    (reason,) = verdict.reasons
    assert reason.endswith("not measured, the baseline's score is not above zero")


def test_a_variant_of_longer_vectors_is_compared_at_the_baselines_length_too():
    quality = {"512": GOOD["quality"]["384"], **GOOD["quality"]}
    longer = make_evidence(GOOD | {"dimensions": 512, "quality": quality}, {"512": SAMPLES["384"], **SAMPLES})
    evidence = {"fp32": make_evidence(GOOD, SAMPLES), "it": longer}
    retention = compare_scores(small_release.GATE, "fp32", evidence)
    assert {length: sorted(ratios) for length, ratios in retention["it"].items()} == {
        512: ["Find", "Rank", "Rate", "Sort"], 384: ["Find"], 128: ["Find"]
    }  # fmt: skip


@pytest.mark.parametrize("score", [0.0, -0.2])
def test_a_lead_over_noise_that_the_baseline_lacks_is_not_measured(score):
    base = change("quality.384.Rank.main_score", score)
    verdict = judge(GOOD, {"lead_min": {"STS": 0.5}}, base)
    assert [reason for reason in verdict.reasons if "does not score above random token vectors" in reason]


SCALED = {"size_ratio_max": 0.33, "peak_rss_over_baseline_mb_max": 420}


# Sizes of fp32 and int8, and int8's peak memory, all in MB: MiniLM, EmbeddingGemma, and neither.
@pytest.mark.parametrize(
    ("base_mb", "mb", "peak_mb", "missed"),
    [
        (91.6, 24.2, 124, set()),
        (1269.6, 327.2, 600, set()),
        (91.6, 31, 124, {"size_ratio_max"}),
        (91.6, 24.2, 512, {"peak_rss_over_baseline_mb_max"}),
        (1269.6, 450, 1700, {"size_ratio_max", "peak_rss_over_baseline_mb_max"}),
    ],
)
def test_limits_beside_the_baseline_fit_models_of_any_size(base_mb, mb, peak_mb, missed):
    figures = change("size_mb", mb, change("latency.peak_rss_mb", float(peak_mb)))
    verdict = judge(figures, SCALED, change("size_mb", base_mb))
    assert {check.limit for check in verdict.checks if not check.passes} == missed
    assert verdict.passes == (not missed)
