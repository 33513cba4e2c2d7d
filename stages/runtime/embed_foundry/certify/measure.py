"""Measures a release on this host: self-test of each variant, then all of them beside each other by the protocol."""

import datetime
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from .. import selection
from ..bundle import Bundle
from ..cpus import available_cpus, cpu_groups, quota_cpus
from ..encoders.variant import Variant
from ..environment import Environment
from ..errors import FoundryError, InputError, IntegrityError, one_line
from ..progress import bar
from ..selftest import read_probes
from ..timing import statistics
from ..timing.protocol import Protocol, plan_calls, time_all
from ..timing.rounds import Sample, time_cold_starts
from ..timing.sized_texts import CHARACTERS_PER_TOKEN_MAX
from ..timing.worker_pool import WorkerPool
from ..timing.worker_process import PeakRssRequest, ProvidersRequest
from . import host
from .certificate import Certificate, Times, VariantResult


def certify(bundle: Bundle, budget_s: float, threads: int | None = None) -> Certificate:
    """Measure every variant of a release that can run here.

    Args:
        bundle: the release.
        budget_s: seconds for the timed rounds of all variants.
        threads: CPU threads of a call; None means all that this process may use.

    Raises:
        InputError: no variant can run here.
        IntegrityError: a variant that passed its self-test fails in a process of its own.
    """
    environment, threads = Environment.detect(), threads or available_cpus()
    decision = selection.decide(bundle.contract, environment)
    skipped = {choice.name: " and ".join(choice.obstacles) for choice in decision.choices if choice.obstacles}
    names = [choice.name for choice in decision.choices if not choice.obstacles]
    if not names:
        reasons = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        raise InputError(f"{bundle.folder}: no variant can run here. {reasons}")
    read_others = host.watch_others()
    results = {name: _test(bundle, name, threads) for name in names}
    working = [name for name in names if not results[name].faults]
    if working:
        folders = {name: bundle.folder / "variants" / name for name in working}
        results |= _measure(bundle, folders, results, budget_s, threads)
    opened = next((name for name in decision.order if name in working), "")
    return Certificate(
        digest=bundle.digest,
        issued=datetime.datetime.now(datetime.UTC).date().isoformat(),
        host=host.describe(environment, threads, read_others()),
        threads=threads,
        opened=opened,
        variants={name: _judge(bundle, name, result) for name, result in results.items()},
        skipped=skipped,
    )


def read_protocol(bundle: Bundle, budget_s: float) -> Protocol:
    """Return the protocol that the release's own figures were measured by, in another time.

    Raises:
        IntegrityError: bundle.json does not say it as a build writes it.
    """
    try:
        return replace(Protocol(**bundle.raw["build"]["parameters"]["latency"]["latency"]), budget_s=budget_s)
    except (KeyError, TypeError) as error:
        raise IntegrityError(
            f"{bundle.folder}: does not say how its latency was measured ({type(error).__name__} {error}), as releases "
            "of a build do. Get it again from where it was published."
        ) from None


def _test(bundle: Bundle, name: str, threads: int) -> VariantResult:
    """Return a variant's result as far as its self-test decides it."""
    try:
        _, passed = bundle.open_tested(name, threads)
    except FoundryError as error:
        return VariantResult(faults=[one_line(error)])
    identical = np.array_equal(passed.vectors, bundle.golden(name))
    return VariantResult(faults=[], cosine=round(passed.cosine, 6), identical=bool(identical))


def _measure(
    bundle: Bundle, folders: Mapping[str, Path], tested: Mapping[str, VariantResult], budget_s: float, threads: int
) -> dict[str, VariantResult]:
    """Return the results of the variants that passed their self-test, with their figures."""
    protocol = read_protocol(bundle, budget_s)
    first = next(iter(folders))
    limits = {name: Variant.load(folder).max_tokens for name, folder in folders.items()}
    rng = random.Random(protocol.seed)  # noqa: S311 - orders, not secrets
    texts = [text for probe in read_probes(bundle.probes) if (text := str(probe["text"])).strip()]
    # Long inputs need more text than the probes have: again from the beginning. What a text says costs no time.
    repeats = math.ceil(CHARACTERS_PER_TOKEN_MAX * max(limits.values()) / sum(map(len, texts)))
    repair = "Get the release again."
    with WorkerPool(folders, first, threads, providers=bundle.contract.providers, repair=repair) as pool:
        plan = plan_calls(protocol, pool, limits, texts * repeats)
        with bar("certify: cold starts", protocol.cold_starts * len(folders)) as progress:
            cold_starts = time_cold_starts(pool, protocol.cold_starts, rng, progress.update)
        timed = time_all(protocol, pool, limits, plan, rng, quota=quota_cpus(cpu_groups()) is not None)
        peaks = {name: pool.ask(name, PeakRssRequest()) for name in pool.names}
        providers = {name: pool.ask(name, ProvidersRequest()) or [] for name in pool.names}
    samples = [sample for series in timed for sample in series.samples]
    return {
        name: replace(
            tested[name],
            faults=[one_line(pool.errors[name])] if name in pool.errors else [],
            providers=providers.get(name, []),
            cold_start_s=round(median(cold_starts[name]), 3) if cold_starts[name] else None,
            peak_rss_mb=None if (peak := peaks.get(name)) is None else round(peak, 1),
            times=_summarize([sample for sample in samples if sample.variant == name]),
        )
        for name in folders
    }


def _summarize(samples: Sequence[Sample]) -> list[Times]:
    """Return the figures of each kind of call that was timed often enough for an interval."""
    calls: dict[tuple[int, int], list[float]] = {}
    for sample in samples:
        calls.setdefault((sample.batch, sample.tokens), []).append(sample.ms)
    return [
        _summarize_calls(tokens, batch, times) for (batch, tokens), times in sorted(calls.items()) if len(times) >= 6
    ]


def _summarize_calls(tokens: int, batch: int, times: Sequence[float]) -> Times:
    low, high = statistics.median_interval(times)
    has_tail = statistics.quantile_upper(times, 0.95) is not None
    return Times(
        tokens=tokens,
        batch=batch,
        n=len(times),
        median_ms=round(median(times), 4),
        low_ms=round(low, 4),
        high_ms=round(high, 4),
        p95_ms=round(statistics.quantile(times, 0.95), 4) if has_tail else None,
    )


def _judge(bundle: Bundle, name: str, result: VariantResult) -> VariantResult:
    """Return a result with the limits of the target that it misses here: those that need no baseline."""
    target = bundle.raw["target"]
    limits = target["limits"].get(name) or target["limits"].get("default") or {}
    memory, peak = float(target["resources"]["memory_mb"]), limits.get("peak_rss_mb_max")
    most = memory if peak is None else min(memory, float(peak))
    faults = list(result.faults)
    if result.peak_rss_mb is not None and result.peak_rss_mb > most:
        faults.append(f"peak memory {result.peak_rss_mb:g} MB, limit {most:g}")
    cold = limits.get("cold_start_s_max")
    if cold is not None and result.cold_start_s is not None and result.cold_start_s > float(cold):
        faults.append(f"cold start {result.cold_start_s:g} s, limit {cold:g}")
    return replace(result, faults=faults)
