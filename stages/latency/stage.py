"""The latency stage: variants and texts in, paired timings out."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from embed_foundry.encoders.kinds import DISTRIBUTIONS
from embed_foundry.encoders.providers import CPU
from embed_foundry.errors import InputError
from embed_foundry.system_errors import retryable_error
from embed_foundry.timing.rounds import Sample
from embed_foundry.timing.worker_pool import WorkerPool
from embed_foundry.timing.worker_process import build_environment
from pydantic import ValidationError

from stages.common.config import Latency, Resources
from stages.common.contract.output import stage_output
from stages.common.contract.tables import write_csv
from stages.common.measure import host
from stages.common.records.latency import LatencyReport
from stages.common.records.machine import Machine
from stages.latency.control_groups import enforce
from stages.latency.matrix_throughput import measure_matrix_throughput
from stages.latency.measurement import measure

SAMPLES = "samples.csv"
# The process beside the variants', for its quota: no variant's name has a hyphen.
PRODUCTS = "matrix-products"
# Distributions whose versions shape the figures.
LIBRARIES = ("numpy", *sorted(DISTRIBUTIONS))


def run(
    config: Latency,
    variants: Mapping[str, Path],
    baseline: str,
    data: Path,
    machine: Path,
    resources: Resources,
    out: Path,
    providers: Sequence[str] = CPU,
) -> LatencyReport:
    """Measure, write latency.json and samples.csv, and return the content of the former.

    Args:
        config: lengths, rounds, batch, cold starts.
        variants: name to folder of every catalogued variant.
        baseline: the variant that speed-ups are relative to.
        data: the suite's folder; inputs are cut from its retrieval documents.
        machine: machine.json.
        resources: threads, CPU quota and memory of each process.
        out: the latency folder.
        providers: execution providers that encoders try, in order.

    Raises:
        InputError: machine.json is not this machine's, or `data` has no text that gives an exact length.
        IntegrityError: an input differs from its manifest, or the baseline's encoder fails.
        RetryableError: another process writes `out`, or the baseline's process dies or hangs.
    """
    fingerprint, threads = require_same_machine(machine), resources.threads
    parameters = {"latency": config.model_dump(mode="json"), "baseline": baseline, "threads": threads}
    parameters |= {"cpus": resources.cpus, "machine": fingerprint.digest}
    parameters |= {"memory_mb": resources.memory_mb} if resources.enforce_memory else {}
    parameters |= {"providers": list(providers)} if tuple(providers) != CPU else {}
    inputs = {"data": data} | {f"variants/{name}": folder for name, folder in variants.items()}
    with stage_output(out, stage="latency", parameters=parameters, inputs=inputs, libraries=LIBRARIES) as work:
        read_load = host.watch_load(threads)
        with enforce(resources, [*variants, PRODUCTS], any_memory=(baseline, PRODUCTS)) as groups:
            repair = f"Next: dvc repro convert@{baseline}."
            prefixes = groups.prefixes
            with WorkerPool(variants, baseline, threads, prefixes=prefixes, providers=providers, repair=repair) as pool:
                measurement = measure(config, pool, data, quota=groups.throttles)
            quota_record = groups.to_record()
            peak_gops = {}
            if measurement.operations:
                prefix = prefixes.get(PRODUCTS, ())
                peak_gops = measure_matrix_throughput(threads, build_environment(threads), prefix)
        report = LatencyReport(
            machine=fingerprint,
            machine_digest=fingerprint.digest,
            threads=threads,
            baseline=baseline,
            host=read_load(),
            quota=quota_record,
            budget_s=config.budget_s,
            series=measurement.series,
            peak_gops=peak_gops,
            operations=measurement.operations,
            variants=measurement.variants,
            providers=measurement.providers,
        )
        (work / LatencyReport.FILE).write_bytes(report.dump())
        _write_samples(work / SAMPLES, measurement.samples)
    _warn_if_crowded(report)
    return report


def require_same_machine(path: Path) -> Machine:
    """Return this machine's fingerprint after comparing it with machine.json.

    Raises:
        InputError: machine.json is missing, unreadable or of another machine.
    """
    machine = host.fingerprint_machine()
    step = "Next: python -m stages.machine --refresh, then dvc repro; `make` does both."
    try:
        recorded = Machine.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise retryable_error(error, path) or InputError(
            f"{path}: not readable ({_summarize(error)}); expected this machine's fingerprint. {step}"
        ) from None
    if recorded != machine:
        actual = machine.model_dump()
        differences = {
            key: (value, actual[key]) for key, value in recorded.model_dump().items() if value != actual[key]
        }
        raise InputError(f"{path}: describes another machine; differences (recorded, actual): {differences}. {step}")
    return machine


def _write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples as CSV; times have 4 digits after the point, an absent one is empty."""
    rows = ([round(value, 4) if isinstance(value, float) else value for value in astuple(sample)] for sample in samples)
    write_csv(path, [field.name for field in fields(Sample)], rows)


def _warn_if_crowded(report: LatencyReport) -> None:
    if report.host.crowded:
        warnings.warn(
            f"latency: other processes kept {report.host.others_cpus} CPUs busy meanwhile, which slows "
            f"{report.threads} threads unevenly. For reliable figures, close them, then run: "
            "dvc repro --force --single-item latency.",
            stacklevel=3,
        )


def _summarize(error: OSError | ValidationError) -> str:
    """Return why a record could not be read, on one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors()[0]
    return ": ".join([*map(str, first["loc"]), first["msg"]])
