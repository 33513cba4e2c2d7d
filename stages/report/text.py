"""verdict.txt: the table that a build ends with. One column a variant, so that it fits a terminal of 80 columns."""

from collections.abc import Iterator

from stages.report.facts import Facts, Seen

GAP = "  "
LEGEND = "! misses its limit"
CROWDED = "speed-ups: other processes took the CPUs meanwhile; measure again before deciding on them"


def render(facts: Facts) -> str:
    """Return the table, its mark in words if a cell carries it, then why each variant missed a limit or failed."""
    release = facts.verdict["release"]
    header = [
        f"{facts.model.repo}@{facts.model.revision[:12]} for {facts.target}",
        f"release: {'PASS' if release['passes'] else 'FAIL'} ({release['reason']})",
        *([CROWDED] if facts.crowded else []),
        "",
    ]
    rows = list(_rows(facts))
    # Not every missed limit has a cell here, such as cold start: then the reasons alone tell of it.
    marked = any(cell.endswith("!") for row in rows for cell in row[1:])
    return "\n".join([*header, *_aligned(rows), *([f"\n{LEGEND}"] if marked else []), *_reasons(facts)]) + "\n"


def _rows(facts: Facts) -> Iterator[list[str]]:
    """Yield the label and one cell a variant; a heading has no cells."""
    seen, base = facts.variants, facts.baseline.name
    yield ["", *(one.name for one in seen)]
    yield ["verdict", *(one.verdict for one in seen)]
    yield ["size, MB", *(_cell(one.size_mb, ".1f", one.missed("size_mb_max")) for one in seen)]
    yield [
        f"cosine to {base}, min",
        *(_cell(one.parity.get("cosine_min"), ".4f", one.missed("cosine_min_min")) for one in seen),
    ]
    if facts.types:
        yield [f"quality, % of {base}"]
    for kind in facts.types:
        yield [f"  {kind}", *(_retention(facts, one, kind) for one in seen)]
    if facts.lengths:
        yield [f"speed-up over {base}"]
    for tokens in facts.lengths:
        cells = (_cell(one.speedup(tokens), ".2f", one.missed("speedup_min", f"{tokens} tokens"), "x") for one in seen)
        yield [f"  {tokens} tokens", *cells]


def _retention(facts: Facts, one: Seen, kind: str) -> str:
    value = facts.least_retention(one, kind)
    return _cell(None if value is None else 100 * value, ".1f", facts.missed_quality(one, kind))


def _cell(value: float | None, form: str, missed: bool, unit: str = "") -> str:
    return ("-" if value is None else f"{value:{form}}{unit}") + ("!" if missed else " ")


def _aligned(rows: list[list[str]]) -> list[str]:
    """Return the rows as lines: labels to the left, cells to the right so that digits stand under digits."""
    columns = len(rows[0])
    rows = [[row[0], *(cell if cell[-1:] in ("!", " ") else f"{cell} " for cell in row[1:])] for row in rows]
    width = [max(len(row[at]) for row in rows if len(row) > at) for at in range(columns)]
    return [
        GAP.join(
            [row[0].ljust(width[0]), *(cell.rjust(size) for cell, size in zip(row[1:], width[1:], strict=False))]
        ).rstrip()
        for row in rows
    ]


def _reasons(facts: Facts) -> Iterator[str]:
    for one in facts.variants:
        if reasons := one.judged["reasons"]:
            yield f"\n{one.name} ({one.verdict}):"
            yield from (f"  {reason}" for reason in reasons)
