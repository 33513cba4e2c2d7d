"""The latency stage: variants and texts in, paired timings out."""

import csv
import json
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Any

from embed_foundry import Variant, manifest
from embed_foundry.errors import InputError
from embed_foundry.kinds import DISTRIBUTIONS

from stages.common.config import Latency, Resources
from stages.common.contract.output import stage_output
from stages.common.contract.progress import bar
from stages.common.measure import host
from stages.latency import figures, peak, quota, texts, timing
from stages.latency.team import Team, environment
from stages.latency.timing import Sample, Series

NAME = "latency.json"
SAMPLES = "samples.csv"
# Versions that shape the figures.
LIBRARIES = ("numpy", *sorted(DISTRIBUTIONS))
# Different texts a length: no single one decides.
TEXTS = 8


def run(
    config: Latency,
    variants: Mapping[str, Path],
    baseline: str,
    data: Path,
    machine: Path,
    resources: Resources,
    out: Path,
) -> dict[str, Any]:
    """Measure and return the content of latency.json.

    Args:
        config: lengths, rounds, batch, cold starts.
        variants: name to folder of every catalogued variant.
        baseline: the variant that speed-ups are relative to.
        data: the suite's folder; inputs are cut from its retrieval documents.
        machine: machine.json.
        resources: threads and CPU quota of each process.
        out: the latency folder.

    Raises:
        InputError: machine.json is not this machine's, or `data` has no text that gives an exact length.
        IntegrityError: an input differs from its manifest, or the baseline's encoder fails.
        RetryableError: another process writes `out`, or the baseline's process dies or hangs.
    """
    found = checked(machine)
    digest, threads = host.digest(found), resources.threads
    parameters = {"latency": config.model_dump(mode="json"), "baseline": baseline, "threads": threads}
    parameters["cpus"] = resources.cpus
    inputs = {"data": data} | {f"variants/{name}": folder for name, folder in variants.items()}
    with stage_output(
        out, stage="latency", parameters=parameters | {"machine": digest}, inputs=inputs, libraries=LIBRARIES
    ) as work:
        since = host.watch()
        with quota.enforced(resources.cpus) as held:
            with Team(variants, baseline, threads, prefix=held.prefix) as team:
                measured, samples, operations = measure(config, team, data)
            enforced = held.record()
            limit = peak.measured(threads, environment(threads), held.prefix) if operations else {}
        seen = since()
        crowded = host.crowded(seen, threads)
        report = {"machine": found, "machine_digest": digest, "threads": threads, "baseline": baseline}
        report |= {"host": seen | {"crowded": crowded}, "quota": enforced, "variants": measured}
        report |= {"peak_gops": limit, "operations": operations}
        (work / NAME).write_bytes(manifest.canonical(report))
        _table(work / SAMPLES, [sample for sample in samples if sample.variant not in team.errors])
    if crowded:
        warnings.warn(
            f"latency: other processes kept {seen['others_cpus']} CPUs busy meanwhile, which slows {threads} threads "
            "unevenly. For figures to decide on, close them, then: dvc repro --force --single-item latency.",
            stacklevel=2,
        )
    return report


def checked(path: Path) -> dict[str, Any]:
    """Return this machine's fingerprint after comparing it with machine.json.

    Raises:
        InputError: machine.json is missing, unreadable or of another machine.
    """
    found, step = host.fingerprint(), "Next: python -m stages.machine --refresh, then dvc repro; `make` does both."
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); expected this machine's fingerprint. {step}") from None
    if known != found:
        facts = known if isinstance(known, dict) else {}
        differs = {key: (facts.get(key), found[key]) for key in found if facts.get(key) != found[key]}
        raise InputError(f"{path}: is of another machine; (there, here): {differs or 'unknown keys'}. {step}")
    return found


def measure(config: Latency, team: Team, data: Path) -> tuple[dict[str, Any], list[Sample], dict[str, int]]:
    """Return the variants' figures by name, the samples they come from, and the baseline's operations by tokens.

    Args:
        config: as `run`.
        team: the workers, not started yet.
        data: as `run`.
    """
    rng = random.Random(config.seed)  # noqa: S311 - orders, not secrets
    with bar("latency: cold starts", config.cold_starts * len(team.variants)) as shown:
        cold = timing.cold_starts(team, config.cold_starts, rng, shown.update)
    limits = {name: Variant.load(folder).max_tokens for name, folder in team.variants.items()}
    gap_s = config.gap_ms / 1000
    until = {"tight": config.tight, "extra_s": config.extra_s}
    singles = [Series(tokens, 1, config.rounds, gap_s, **until) for tokens in sorted(config.lengths)]
    singles = [series for series in singles if series.tokens <= limits[team.baseline]]
    batched = Series(min(config.batch_length, *limits.values()), config.batch_size, config.batch_rounds, gap_s)
    samples, inputs = _timed([*singles, batched], team, limits, data, rng)
    memory = {name: answer for name in team.names if (answer := team.ask(name, "rss"))}
    operations = {}
    if Variant.load(team.variants[team.baseline]).kind == "torch":
        answers = {tokens: team.ask(team.baseline, "operations", [text]) for tokens, text in inputs.items()}
        operations = {str(tokens): int(answer["operations"]) for tokens, answer in answers.items() if answer}
    calls = figures.by_variant(samples)
    base = calls[team.baseline]
    found = {
        name: {"error": team.errors[name]}
        if name in team.errors
        else {
            "lengths": figures.lengths(calls[name], base),
            "batch": figures.batches(calls[name], base, batched.tokens, batched.batch),
            "cold_start_s": {"median": round(median(cold[name]), 3), "values": [round(s, 3) for s in cold[name]]},
            "peak_rss_mb": round(memory[name]["peak_rss_mb"], 1),
        }
        for name in team.variants
    }
    return found, samples, operations


def _timed(
    plan: Sequence[Series], team: Team, limits: Mapping[str, int], data: Path, rng: random.Random
) -> tuple[list[Sample], dict[int, str]]:
    """Take all series; every variant sees the same texts, of the exact length by the baseline's tokens.

    Returns the samples, and one text of each length that was timed alone.
    """

    def count(rows: list[str]) -> list[int]:
        answer = team.ask(team.baseline, "count", rows)
        return list(answer["counts"]) if answer else []

    documents = texts.passages(data, rng)
    samples: list[Sample] = []
    firsts: dict[int, str] = {}
    with bar("latency: rounds", sum(series.rounds for series in plan)) as shown:
        for series in plan:
            inputs = texts.exact(documents, series.tokens, max(TEXTS, series.batch), count)
            if series.batch == 1:
                firsts[series.tokens] = inputs[0]
            names = [name for name in team.names if series.tokens <= limits[name]]
            samples += timing.take(series, team, names, inputs, rng, shown.update)
    return samples, firsts


def _table(path: Path, samples: Sequence[Sample]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Sample))
        for sample in samples:
            row = asdict(sample).values()
            writer.writerow(round(value, 4) if isinstance(value, float) else value for value in row)
