"""verdict.txt: the table that a build ends with. One column per variant; it fits a terminal of 80 columns."""

from collections.abc import Iterator

from stages.report.content import Report
from stages.report.variant import VariantReport

GAP = "  "
LEGEND = "! misses its limit"
CERTIFY = "  next, on such a host: embed-foundry certify RELEASE"
KEPT = "release/ is not of this build: it holds the last one that passed, or nothing"
CROWDED = "speed-ups: other processes took the CPUs meanwhile; measure again before relying on them"


def render(report: Report) -> str:
    """Return the table, a legend if a cell is marked, then why each variant missed a limit or failed."""
    release = report.verdict.release
    header = [
        f"{report.model.repo}@{report.model.revision[:12]} for {report.target}",
        f"release: {'PASS' if release.passes else 'FAIL'}, {release.reason}",
        *([] if release.passes else [KEPT]),
        *([CROWDED] if report.crowded else []),
        *(f"not certified there: {difference}" for difference in report.verdict.uncertified),
        *([CERTIFY] if report.verdict.uncertified else []),
        "",
    ]
    rows = list(_rows(report))
    # Not every missed limit has a cell here, such as cold start: those stand among the reasons alone.
    marked = any(cell.endswith("!") for row in rows for cell in row[1:])
    return "\n".join([*header, *_align(rows), *([f"\n{LEGEND}"] if marked else []), *_reasons(report)]) + "\n"


def _rows(report: Report) -> Iterator[list[str]]:
    """Yield the label and one cell per variant; a heading has no cells."""
    variants, base = report.variants, report.baseline.name
    yield ["", *(variant.name for variant in variants)]
    yield ["verdict", *(variant.status for variant in variants)]
    yield ["size, MB", *(_cell(variant.size_mb, ".1f", variant.missed_size) for variant in variants)]
    yield [
        f"cosine to {base}, min",
        *(_cell(variant.cosine_min, ".4f", variant.missed("cosine_min_min")) for variant in variants),
    ]
    if report.types:
        yield [f"quality, % of {base}"]
    for task_type in report.types:
        yield [f"  {task_type}", *(_retention(report, variant, task_type) for variant in variants)]
    if report.lengths:
        yield [f"speed-up over {base}"]
    for tokens in report.lengths:
        missed = [variant.missed("speedup_min", f"{tokens} tokens") for variant in variants]
        speedups = [variant.speedup(tokens) for variant in variants]
        yield [
            f"  {tokens} tokens",
            *(_cell(value, ".2f", mark, "x") for value, mark in zip(speedups, missed, strict=True)),
        ]


def _retention(report: Report, variant: VariantReport, task_type: str) -> str:
    value = report.least_retention(variant, task_type)
    return _cell(None if value is None else 100 * value, ".1f", report.missed_quality(variant, task_type))


def _cell(value: float | None, form: str, missed: bool, unit: str = "") -> str:
    return ("-" if value is None else f"{value:{form}}{unit}") + ("!" if missed else " ")


def _align(rows: list[list[str]]) -> list[str]:
    """Return the rows as lines: labels to the left, cells to the right so that digits stand under digits."""
    columns = len(rows[0])
    rows = [[row[0], *(cell if cell[-1:] in ("!", " ") else f"{cell} " for cell in row[1:])] for row in rows]
    widths = [max(len(row[column]) for row in rows if len(row) > column) for column in range(columns)]
    return [
        GAP.join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False))]
        ).rstrip()
        for row in rows
    ]


def _reasons(report: Report) -> Iterator[str]:
    for variant in report.variants:
        if reasons := variant.verdict.reasons:
            yield f"\n{variant.name} ({variant.status}):"
            yield from (f"  {reason}" for reason in reasons)
