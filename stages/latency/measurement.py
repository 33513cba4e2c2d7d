"""A whole measurement: cold starts, timed rounds, memory and operations of all variants, as figures."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from embed_foundry import Variant

from stages.common.config import Latency
from stages.common.contract.progress import bar
from stages.common.records.base import Failure
from stages.common.records.latency import ColdStart, VariantLatency
from stages.latency import figures, sized_texts, timing
from stages.latency.timing import Sample, Series
from stages.latency.worker_pool import WorkerPool
from stages.latency.worker_process import OperationsRequest, PeakRssRequest, TokenCountRequest

# Different texts of a length: no single one decides.
TEXTS = 8


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        variants: name -> figures, or why there are none.
        samples: the calls behind them.
        operations: tokens -> operations of the baseline's matrix products for one text; empty if it does not run in
            torch.
    """

    variants: dict[str, VariantLatency | Failure]
    samples: list[Sample]
    operations: dict[int, int]


def measure(config: Latency, pool: WorkerPool, data: Path) -> Measurement:
    """Measure all variants of a pool.

    Args:
        config: lengths, rounds, batch, cold starts.
        pool: the workers, not started yet.
        data: the suite's folder; inputs are cut from its retrieval documents.

    Raises:
        InputError: `data` has no text that gives an exact length.
        IntegrityError: the baseline's encoder failed.
        RetryableError: the baseline's process died or hung.
    """
    rng = random.Random(config.seed)  # noqa: S311 - orders, not secrets
    with bar("latency: cold starts", config.cold_starts * len(pool.variants)) as progress:
        cold_starts = timing.time_cold_starts(pool, config.cold_starts, rng, progress.update)
    limits = {name: Variant.load(folder).max_tokens for name, folder in pool.variants.items()}
    singles, batched = _plan_series(config, limits, pool.baseline)
    samples, texts = _time_all([*singles, batched], pool, limits, data, rng)
    peak_rss_mb = {name: mb for name in pool.names if (mb := pool.ask(name, PeakRssRequest())) is not None}
    operations = _count_operations(pool, texts)
    calls = figures.group_by_variant(samples)
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
    return Measurement(variants, [sample for sample in samples if sample.variant not in pool.errors], operations)


def _plan_series(config: Latency, limits: Mapping[str, int], baseline: str) -> tuple[list[Series], Series]:
    """Return the series of one text per call, lengths ascending, and the one of batches.

    Args:
        config: as `measure`.
        limits: name -> longest input in tokens; lengths over the baseline's limit are left out, and the batch's length
            is the least limit at most.
        baseline: the baseline's name.
    """
    gap_s = config.gap_ms / 1000
    singles = [
        Series(tokens, 1, config.rounds, gap_s, tight=config.tight, extra_s=config.extra_s)
        for tokens in sorted(config.lengths)
        if tokens <= limits[baseline]
    ]
    tokens = min(config.batch_length, *limits.values())
    return singles, Series(tokens, config.batch_size, config.batch_rounds, gap_s)


def _time_all(
    plan: Sequence[Series], pool: WorkerPool, limits: Mapping[str, int], data: Path, rng: random.Random
) -> tuple[list[Sample], dict[int, str]]:
    """Time all series; every variant encodes the same texts, whose length is exact in the baseline's tokens.

    Returns:
        the samples, and tokens -> one text of each length that was timed alone.
    """
    documents = sized_texts.load_documents(data, rng)
    samples: list[Sample] = []
    single_texts: dict[int, str] = {}
    with bar("latency: rounds", sum(series.rounds for series in plan)) as progress:
        for series in plan:
            texts = sized_texts.cut_exact_texts(
                documents,
                series.tokens,
                max(TEXTS, series.batch),
                count_tokens=lambda texts: pool.ask_baseline(TokenCountRequest(texts)),
            )
            if series.batch == 1:
                single_texts[series.tokens] = texts[0]
            names = [name for name in pool.names if series.tokens <= limits[name]]
            samples += timing.time_series(series, pool, names, texts, rng, progress.update)
    return samples, single_texts


def _count_operations(pool: WorkerPool, texts: Mapping[int, str]) -> dict[int, int]:
    """Return tokens -> operations of the baseline's matrix products for a text; empty if it does not run in torch."""
    if Variant.load(pool.variants[pool.baseline]).kind != "torch":
        return {}
    return {tokens: pool.ask_baseline(OperationsRequest([text])) for tokens, text in texts.items()}
