"""index.html: the template filled with the report's content. Autoescape is on; only our own SVG counts as markup."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.common.limits import spec_of
from stages.common.records.latency import LengthLatency
from stages.common.records.parity import Parity
from stages.common.records.verdict import Check
from stages.report import plots
from stages.report.content import Report

TEMPLATE = "page.html.jinja"  # includes page.css
MISSING = "–"
# Parity figures by label, in the order of the table.
PARITY: dict[str, Callable[[Parity], float | None]] = {
    "mean cosine": lambda parity: parity.cosine_mean,
    "least cosine": lambda parity: parity.cosine_min,
    "one-token text": lambda parity: parity.one_token,
    "text at the limit": lambda parity: parity.at_limit,
    "least, padded batch": lambda parity: parity.padded_batch_min,
    "batch shift": lambda parity: parity.batch_shift_max,
    "rank correlation": lambda parity: parity.similarity_spearman,
}
# Percentiles by label: the observed one, and its upper bound.
PERCENTILES: dict[str, Callable[[LengthLatency], tuple[float | None, float | None]]] = {
    "P95": lambda times: (times.p95_ms, times.p95_ms_upper),
    "P99": lambda times: (times.p99_ms, times.p99_ms_upper),
}
# Labels of what is known of the machine, where the names do not explain themselves.
MACHINE_LABELS = {
    "cpus": "CPUs it may use",
    "cores": "physical cores",
    "quota_cpus": "CPU quota",
    "memory_gib": "memory, GiB",
    "flags": "instruction sets",
    "load_before": "load average before",
    "load_after": "load average after",
    "others_cpus": "CPUs busy with others",
    "steal_s": "CPU time other guests took, s",
    "throttled_s": "time throttled, s",
}


@dataclass(frozen=True)
class CheckCells:
    """A check as texts: its label, what it was judged on, the figures, the margin relative to the limit, and if met."""

    label: str
    on: str
    value: str
    bound: str
    margin: str
    share: str
    met: str


def render(report: Report) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "percent": format_percent,
        "cells": format_check,
        "plain": format_plain,
    }
    figures = {
        name: Markup(svg)  # noqa: S704 - matplotlib escapes texts
        for name, svg in plots.render_plots(report).items()
    }
    machine, host = report.latency.machine.model_dump(), report.latency.host.model_dump()
    return environment.get_template(TEMPLATE).render(
        report=report,
        plots=figures,
        colours={variant.name: plots.choose_style(report, variant)["color"] for variant in report.variants},
        parity=PARITY,
        percentiles={label: read for label, read in PERCENTILES.items() if _was_measured(report, read)},
        conditions={"The machine": machine, "What else ran meanwhile": host},
        labels=MACHINE_LABELS,
        mark=lambda missed: Markup(' class="missed"') if missed else "",
        missing=MISSING,
    )


def format_number(value: float | None, decimals: int = 2, unit: str = "") -> str:
    """Return a number with fixed decimals and a thin space before its unit; a dash if there is none."""
    if value is None:
        return MISSING
    text = f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return f"{text}\N{NARROW NO-BREAK SPACE}{unit}" if unit else text


def format_percent(value: float | None, decimals: int = 1) -> str:
    """Return a fraction in per cent, without the sign."""
    return format_number(None if value is None else 100 * value, decimals)


def format_plain(value: object) -> str:
    """Return a JSON value as prose."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_plain(item)}" for key, item in value.items()) or MISSING
    if isinstance(value, list | tuple):
        return ", ".join(format_plain(item) for item in value) or MISSING
    return "none" if value is None else str(value)


def format_check(check: Check) -> CheckCells:
    """Return a check as the texts of a table's row."""
    spec = spec_of(check.limit)
    scale = 100 if spec.unit == "%" else 1

    def show(value: float | None, unit: str = spec.unit) -> str:
        return format_number(None if value is None else scale * value, spec.decimals, unit)

    margin, bound = check.margin, check.bound
    value = check.note or "not measured" if check.value is None else show(check.value)
    if check.estimate is not None:
        value = f"{show(check.estimate)}, at least {value}"
    sign = "+" if margin is not None and margin >= 0 else ""
    return CheckCells(
        label=spec.label,
        on=check.on,
        value=value,
        bound=f"{'≤' if spec.direction == 'max' else '≥'} {show(bound)}",
        margin=f"{sign}{show(margin, 'pp' if spec.unit == '%' else spec.unit)}",
        share=MISSING if margin is None or not bound else format_number(100 * margin / abs(bound), 1, "%"),
        met={"pass": "✓ yes", "fail": "✗ no", "inconclusive": "? open"}[check.verdict],
    )


def _was_measured(report: Report, read: Callable[[LengthLatency], tuple[float | None, float | None]]) -> bool:
    times = [variant.times(tokens) for variant in report.variants for tokens in report.lengths]
    return any(read(figures)[0] is not None for figures in times if figures)
