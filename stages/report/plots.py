"""The report's plots."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from stages.report.content import Report
from stages.report.svg import STYLE, make_logarithmic, render_svg
from stages.report.variant import VariantReport

if TYPE_CHECKING:  # matplotlib is imported late
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LineProperty = Any  # a keyword argument of matplotlib's lines
# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that fades on white; the marker
# says the same once more. Both repeat out of step, so that 56 variants differ.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Inches.
WIDTH = 4.9
PANELS = 2


def render_plots(report: Report) -> dict[str, str]:
    """Return name to SVG of every plot there is data for, as elements to put into a page."""
    plots = {name: render_svg(name, partial(plot, report)) for name, plot in PLOTS.items()}
    return {name: svg for name, svg in plots.items() if svg}


def choose_style(report: Report, variant: VariantReport) -> dict[str, str]:
    """Return the colour and marker of a variant, the same in every plot."""
    index = report.variants.index(variant)
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def plot_tradeoff(report: Report, figure: "Figure") -> None:
    """Mean retention over the tasks against the median time of one text, with the front that nothing dominates."""
    length = report.lengths[len(report.lengths) // 2] if report.lengths else 0  # the upper middle one
    points = [
        (median_ms, 100 * retention, variant)
        for variant in report.variants
        if (median_ms := variant.median_ms(length)) and (retention := report.mean_retention(variant)) is not None
    ]
    front: list[tuple[float, float]] = []
    for time, retention, _ in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or retention > front[-1][1]:
            front.append((time, retention))
    axes = _add_axes(figure, 3.3)
    _plot(axes, front, drawstyle="steps-post", color="#c3cad1", zorder=1)
    for time, retention, variant in points:
        style = choose_style(report, variant)
        _plot(axes, [(time, retention)], linestyle="", markersize=8, label=variant.name, **style)
    make_logarithmic(axes, "x")
    axes.margins(x=0.12, y=0.14)
    axes.set(
        xlabel=f"median time of one text of {length} tokens, ms", ylabel=f"mean retention, % of {report.baseline.name}"
    )


def plot_latency(report: Report, figure: "Figure") -> None:
    """Median time of one text by its length."""
    axes = _add_axes(figure, 3.3)
    for variant in report.variants:
        times = [(tokens, variant.median_ms(tokens)) for tokens in report.lengths]
        _plot(axes, times, label=variant.name, **choose_style(report, variant))
    make_logarithmic(axes, "y")
    make_logarithmic(axes, "x", report.lengths)
    axes.set(xlabel="length of the text, tokens", ylabel="median time, ms (this machine)")


def plot_retention(report: Report, figure: "Figure") -> None:
    """Retention by task, each variant at its full dimension: with its bounds, and its limit as a tick."""
    axes = _add_axes(figure, 1.1 + 0.62 * len(report.tasks))
    names = [task.name for task in report.tasks]
    step = 0.7 / max(1, len(report.variants) - 1)
    for position, variant in enumerate(report.variants):
        style = choose_style(report, variant)
        rows = [(row - 0.35 + position * step, task) for row, task in enumerate(names)]
        checks = {check.on: check for check in variant.verdict.checks if check.limit == "retention_min"}
        estimates = [(_percent(report.retention(variant, task)), row) for row, task in rows]
        _plot(axes, estimates, linestyle="", label=variant.name, **style)
        for row, task in rows:
            if (check := checks.get(task)) and check.high is not None:
                ends = [(_percent(check.value), row), (_percent(check.high), row)]
                _plot(axes, ends, color=style["color"], linewidth=1.2)
        tick = {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "markeredgecolor": style["color"]}
        limits = [(_percent(checks[task].bound) if task in checks else None, row) for row, task in rows]
        _plot(axes, limits, linestyle="", **tick)
    axes.set_yticks(range(len(names)), [_shorten(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color=STYLE["grid.color"], linewidth=STYLE["grid.linewidth"])
    axes.set(xlabel=f"% of {report.baseline.name}; the line: its bounds; the stroke: its limit")


def plot_matryoshka(report: Report, figure: "Figure") -> None:
    """Score by dimension, one panel per task."""
    rows = max(1, -(-len(report.tasks) // PANELS))
    figure.set_size_inches(WIDTH, 0.8 + 1.55 * rows)
    panels = figure.subplots(rows, PANELS, sharex=True, squeeze=False).flatten()
    for axes, task in zip(panels, report.tasks, strict=False):
        for variant in report.variants:
            scores = [(dimensions, variant.score(task.name, dimensions)) for dimensions in report.dimensions]
            _plot(axes, scores, label=variant.name, **choose_style(report, variant))
        axes.set_title(f"{_shorten(task.name)}\n{task.metric}", loc="left")
        make_logarithmic(axes, "x", report.dimensions)
        axes.margins(y=0.15)
    for axes in panels[len(report.tasks) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(report.tasks) - PANELS) : len(report.tasks)]:  # the lowest of each column
        axes.set_xlabel("dimensions kept")
        axes.tick_params(labelbottom=True)


PLOTS: Mapping[str, Callable[[Report, "Figure"], None]] = {
    "tradeoff": plot_tradeoff,
    "latency": plot_latency,
    "retention": plot_retention,
    "matryoshka": plot_matryoshka,
}


def _plot(axes: "Axes", points: Sequence[tuple[float | None, float | None]], **style: LineProperty) -> None:
    """Plot the points of which both coordinates are known; nothing, and nothing in the legend, if there are none."""
    complete = [point for point in points if None not in point]
    if complete:
        axes.plot(*zip(*complete, strict=True), **style)


def _add_axes(figure: "Figure", height: float) -> "Axes":
    figure.set_size_inches(WIDTH, height)
    return figure.subplots()


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _shorten(name: str, longest: int = 27) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
