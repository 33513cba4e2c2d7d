"""index.html: the template filled with the facts. Autoescape is on; only our own SVG is marked as markup."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.report import plots
from stages.report.facts import Facts

TEMPLATE = "page.html.jinja"  # includes page.css
MISSING = "–"
# A limit's name in words, the unit of its values and their decimals. Names not here are shown as they are.
LIMITS = {
    "size_mb_max": ("size", "MB", 1),
    "cosine_mean_min": ("mean cosine", "", 5),
    "cosine_min_min": ("least cosine", "", 5),
    "batch_shift_max": ("move by the batch", "", 5),
    "median_cosine_shift_max": ("shift of the median cosine", "", 4),
    "retention_min": ("retention", "%", 2),
    "lead_min": ("lead over noise kept", "%", 1),
    "score_min": ("score", "", 4),
    "speedup_min": ("speed-up", "×", 2),
    "batch_speedup_min": ("speed-up in batches", "×", 2),
    "peak_rss_mb_max": ("peak memory", "MB", 0),
    "cold_start_s_max": ("cold start", "s", 2),
}
# Keys of variant.json's parity figures in words, in the order of the table.
PARITY = {
    "cosine_mean": "mean cosine",
    "cosine_min": "least cosine",
    "one_token": "one-token text",
    "at_limit": "text at the limit",
    "padded_batch_min": "least, padded batch",
    "batch_shift_max": "batch shift",
    "similarity_spearman": "rank correlation",
}
# Percentiles and their keys in latency.json.
TAILS = {"P95": "p95_ms", "P99": "p99_ms"}
# Keys of the machine's facts that do not explain themselves.
WORDS = {
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


def render(facts: Facts) -> str:
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
    environment.filters |= {"number": number, "percent": percent, "limit": limit, "plain": plain}
    drawn = {name: Markup(svg) for name, svg in plots.draw(facts).items()}  # noqa: S704 - matplotlib escapes texts
    return environment.get_template(TEMPLATE).render(
        facts=facts,
        plots=drawn,
        looks={one.name: plots.look(facts, one)["color"] for one in facts.variants},
        middle=plots.middle(facts) if facts.lengths else None,
        parity=PARITY,
        tails={name: key for name, key in TAILS.items() if _measured(facts, key)},
        words=WORDS,
        mark=lambda missed: Markup(' class="missed"') if missed else "",
        missing=MISSING,
    )


def number(value: float | None, decimals: int = 2, unit: str = "") -> str:
    """Return a number with fixed decimals and a thin space before its unit; a dash if there is none."""
    if value is None:
        return MISSING
    text = f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return f"{text}\N{NARROW NO-BREAK SPACE}{unit}" if unit else text


def percent(value: float | None, decimals: int = 1) -> str:
    """Return a fraction in per cent, without the sign."""
    return number(None if value is None else 100 * value, decimals)


def plain(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value as prose."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or MISSING
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or MISSING
    return "none" if value is None else str(value)


def limit(check: Mapping[str, Any]) -> dict[str, str]:
    """Return a check in words: what, value, bound, margin, the margin relative to the bound, and if it is met."""
    name, unit, decimals = LIMITS.get(check["limit"], (check["limit"], "", 4))
    scale = 100 if unit == "%" else 1

    def shown(value: float | None, unit: str = unit) -> str:
        return number(None if value is None else scale * value, decimals, unit)

    margin, bound = check["margin"], check["bound"]
    value = "not measured" if check["value"] is None else shown(check["value"])
    if check["estimate"] is not None:
        value = f"{shown(check['estimate'])}, at least {value}"
    return {
        "what": name,
        "on": check["on"],
        "value": value,
        "bound": f"{'≤' if check['limit'].endswith('_max') else '≥'} {shown(bound)}",
        "margin": f"{'+' if margin is not None and margin >= 0 else ''}{shown(margin, 'pp' if unit == '%' else unit)}",
        "met": {"pass": "✓ yes", "fail": "✗ no"}.get(check["verdict"], "? open"),
        "share": MISSING if margin is None or not bound else number(100 * margin / abs(bound), 1, "%"),
    }


def _measured(facts: Facts, key: str) -> bool:
    return any(key in one.timed(tokens) for one in facts.variants for tokens in facts.lengths)
