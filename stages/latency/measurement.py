"""A whole measurement: cold starts, timed rounds, memory and operations of all variants, as figures."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Never

from embed_foundry import Variant

from stages.common.config import Latency
from stages.common.contract.progress import bar, share_bar
from stages.common.records.base import Failure
from stages.common.records.latency import ColdStart, TimedSeries, VariantLatency
from stages.latency import figures, sized_texts, timing
from stages.latency.timing import Sample, Series, SeriesTimes
from stages.latency.worker_pool import WorkerPool
from stages.latency.worker_process import OperationsRequest, PeakRssRequest, TokenCountRequest

if TYPE_CHECKING:
    from tqdm import tqdm

# Different texts of a length: no single one decides.
TEXTS = 8


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        variants: name -> figures, or why there are none.
        samples: the calls behind them.
        series: what each series of calls took.
        operations: tokens -> operations of the baseline's matrix products for one text; empty if it does not run in
            torch.
    """

    variants: dict[str, VariantLatency | Failure]
    samples: list[Sample]
    series: list[TimedSeries]
    operations: dict[int, int]


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
    rng = random.Random(config.seed)  # noqa: S311 - orders, not secrets
    with bar("latency: cold starts", config.cold_starts * len(pool.variants)) as progress:
        cold_starts = timing.time_cold_starts(pool, config.cold_starts, rng, progress.update)
    limits = {name: Variant.load(folder).max_tokens for name, folder in pool.variants.items()}
    timed, texts = _time_all(config, pool, limits, data, rng, quota=quota)
    samples = [sample for times in timed for sample in times.samples]
    peak_rss_mb = {name: mb for name in pool.names if (mb := pool.ask(name, PeakRssRequest())) is not None}
    operations = _count_operations(pool, texts)
    calls = figures.group_by_variant(samples)
    batched = timed[-1].series
    variants: dict[str, VariantLatency | Failure] = {}
    for name in pool.variants:
        if name in pool.errors:
            variants[name] = Failure(error=pool.errors[name])
            continue
        own, baseline, seconds = calls[name], calls[pool.baseline], cold_starts[name]
        variants[name] = VariantLatency(
            lengths=figures.summarize_lengths(own, baseline),
            batch=figures.summarize_batch(own, baseline, batched.tokens, batched.batch),
            cold_start_s=ColdStart(median=round(median(seconds), 3), values=[round(value, 3) for value in seconds]),
            peak_rss_mb=round(peak_rss_mb[name], 1),
        )
    return Measurement(
        variants=variants,
        samples=[sample for sample in samples if sample.variant not in pool.errors],
        series=[times.to_record() for times in timed],
        operations=operations,
    )


def _time_all(
    config: Latency, pool: WorkerPool, limits: Mapping[str, int], data: Path, rng: random.Random, *, quota: bool
) -> tuple[list[SeriesTimes], dict[int, str]]:
    """Time one text per call at each length, ascending, then batches; every variant encodes the same texts.

    Lengths are exact in the baseline's tokens. Those over its limit are left out, and the batch's length is the least
    limit at most. What a series leaves of its share of the time goes to the longer ones after it.

    Returns:
        the series, batches last, and tokens -> one text of each length that was timed alone.
    """
    lengths = [tokens for tokens in sorted(config.lengths) if tokens <= limits[pool.baseline]]
    batch_tokens = min(config.batch_length, *limits.values())
    plan = [(tokens, 1) for tokens in lengths] + [(batch_tokens, config.batch_size)]
    documents = sized_texts.load_documents(data, rng)
    timed: list[SeriesTimes] = []
    single_texts: dict[int, str] = {}
    spent_s = 0.0
    with share_bar("latency: rounds", config.budget_s) as progress:
        for position, (tokens, batch) in enumerate(plan):
            seconds = max(1.0, (config.budget_s - spent_s) / (len(plan) - position))
            series = Series(
                tokens=tokens,
                batch=batch,
                rounds=config.rounds if batch == 1 else config.batch_rounds,
                seconds=seconds,
                tight=config.tight if batch == 1 else math.inf,
                gap_s=config.gap_ms / 1000,
                twice=quota,
            )
            texts = sized_texts.cut_exact_texts(
                documents,
                tokens,
                max(TEXTS, batch),
                count_tokens=lambda texts: pool.ask_baseline(TokenCountRequest(texts)),
            )
            if batch == 1:
                single_texts[tokens] = texts[0]
            names = [name for name in pool.names if tokens <= limits[name]]
            advance = partial(_advance, progress, position, config.budget_s / len(plan))
            times = timing.time_series(series, pool, names, texts, rng, advance)
            timed.append(times)
            spent_s += times.seconds
    return timed, single_texts


def _advance(progress: "tqdm[Never]", position: int, seconds: float, share: float) -> None:
    """Show that a series, by its position in the plan, has done a share of its part of the time."""
    progress.update((position + share) * seconds - progress.n)


def _count_operations(pool: WorkerPool, texts: Mapping[int, str]) -> dict[int, int]:
    """Return tokens -> operations of the baseline's matrix products for a text; empty if it does not run in torch."""
    if Variant.load(pool.variants[pool.baseline]).kind != "torch":
        return {}
    return {tokens: pool.ask_baseline(OperationsRequest([text])) for tokens, text in texts.items()}
