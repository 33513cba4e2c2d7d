"""A whole measurement: cold starts, timed rounds, memory and operations of all variants, as figures."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from embed_foundry import Variant
from embed_foundry.progress import bar
from embed_foundry.timing import rounds
from embed_foundry.timing.protocol import Protocol, plan_calls, time_all
from embed_foundry.timing.rounds import Sample, SeriesTimes
from embed_foundry.timing.worker_pool import WorkerPool
from embed_foundry.timing.worker_process import OperationsRequest, PeakRssRequest, ProvidersRequest

from stages.common.config import Latency
from stages.common.records.base import Failure
from stages.common.records.latency import ColdStart, TimedSeries, VariantLatency
from stages.common.sources import suite_files
from stages.latency import figures


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        variants: name -> figures, or why there are none.
        samples: the calls behind them.
        series: what each series of calls took.
        operations: tokens -> operations of the baseline's matrix products for one text; empty if it does not run in
            torch.
        providers: execution providers that computed some variant, sorted.
    """

    variants: dict[str, VariantLatency | Failure]
    samples: list[Sample]
    series: list[TimedSeries]
    operations: dict[int, int]
    providers: list[str]


def measure(config: Latency, pool: WorkerPool, data: Path, *, quota: bool) -> Measurement:
    """Measure all variants of a pool.

    Args:
        config: lengths, rounds, batch, cold starts, time.
        pool: the workers, not started yet.
        data: the suite's folder; inputs are cut from its retrieval documents.
        quota: whether the workers run under a CPU quota.

    Raises:
        InputError: `data` has no text that gives an exact length.
        IntegrityError: the baseline's encoder failed.
        RetryableError: the baseline's process died or hung.
    """
    protocol = Protocol(**config.model_dump())
    rng = random.Random(config.seed)  # noqa: S311 - orders, not secrets
    limits = {name: Variant.load(folder).max_tokens for name, folder in pool.variants.items()}
    plan = plan_calls(protocol, pool, limits, load_documents(data, rng))
    with bar("latency: cold starts", config.cold_starts * len(pool.variants)) as progress:
        cold_starts = rounds.time_cold_starts(pool, config.cold_starts, rng, progress.update)
    timed = time_all(protocol, pool, limits, plan, rng, quota=quota)
    samples = [sample for times in timed for sample in times.samples]
    peak_rss_mb = {name: mb for name in pool.names if (mb := pool.ask(name, PeakRssRequest())) is not None}
    providers = {provider for name in pool.names for provider in pool.ask(name, ProvidersRequest()) or ()}
    operations = _count_operations(pool, {calls.tokens: calls.texts[0] for calls in plan if calls.batch == 1})
    by_variant = figures.group_by_variant(samples)
    batched = timed[-1].series
    variants: dict[str, VariantLatency | Failure] = {}
    for name in pool.variants:
        if name in pool.errors:
            variants[name] = Failure(error=pool.errors[name])
            continue
        own, baseline, seconds = by_variant[name], by_variant[pool.baseline], cold_starts[name]
        variants[name] = VariantLatency(
            lengths=figures.summarize_lengths(own, baseline),
            batch=figures.summarize_batch(own, baseline, batched.tokens, batched.batch),
            cold_start_s=ColdStart(median=round(median(seconds), 3), values=[round(value, 3) for value in seconds]),
            peak_rss_mb=round(peak_rss_mb[name], 1),
        )
    return Measurement(
        variants=variants,
        samples=[sample for sample in samples if sample.variant not in pool.errors],
        series=[_record_series(times) for times in timed],
        operations=operations,
        providers=sorted(providers),
    )


def load_documents(data: Path, rng: random.Random) -> list[str]:
    """Return the documents of all retrieval tasks in an order that `rng` decides, white space collapsed.

    Raises:
        InputError: there are none.
    """
    documents = suite_files.read_passages(data)
    rng.shuffle(documents)
    return documents


def _count_operations(pool: WorkerPool, texts: Mapping[int, str]) -> dict[int, int]:
    """Return tokens -> operations of the baseline's matrix products for a text; empty if it does not run in torch."""
    if Variant.load(pool.variants[pool.baseline]).kind != "torch":
        return {}
    return {tokens: pool.ask_baseline(OperationsRequest([text])) for tokens, text in texts.items()}


def _record_series(times: SeriesTimes) -> TimedSeries:
    """Return what latency.json says of a series."""
    return TimedSeries(
        tokens=times.series.tokens,
        batch=times.series.batch,
        rounds=times.rounds,
        seconds=round(times.seconds, 1),
        periods={name: period for name, period in sorted(times.periods.items()) if period > 1},
    )
