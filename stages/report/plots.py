"""The report's plots as SVG text, the same bytes for the same figures: fixed ids, no date, matplotlib's own font."""

import io
import re
from collections.abc import Callable
from typing import Any

from stages.report.facts import Facts, Seen

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that fades on white; the marker
# says the same once more. Both repeat out of step, so that 56 variants differ.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#3a4149"
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3ad",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ebee",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.5,
    "lines.markeredgecolor": "white",
    "lines.markeredgewidth": 0.6,
}
WIDTH = 4.9
PANELS = 2
_ID = re.compile(r' id="[A-Za-z0-9]+_\d+"')  # figure_1, text_2 …: nothing refers to them, and pages hold many figures


def draw(facts: Facts) -> dict[str, str]:
    """Return name to SVG of every plot there is data for, as elements to put into a page."""
    drawn = {plot.__name__: _svg(plot, facts) for plot in (tradeoff, latency, retention, matryoshka)}
    return {name: svg for name, svg in drawn.items() if svg}


def middle(facts: Facts) -> int:
    """Return the length at which the trade-off is drawn: the upper middle one."""
    return facts.lengths[len(facts.lengths) // 2]


def look(facts: Facts, seen: Seen) -> dict[str, str]:
    """Return the colour and marker of a variant, the same in every plot."""
    at = facts.variants.index(seen)
    return {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)]}


def tradeoff(facts: Facts, figure: Any) -> bool:  # noqa: ANN401 - matplotlib is imported late
    """Mean retention over the tasks against the median time of one text, with the front that nothing dominates."""
    if not facts.lengths:
        return False
    length = middle(facts)
    points = [
        (one.timed(length)["median_ms"], 100 * quality, one)
        for one in facts.variants
        if one.timed(length) and (quality := facts.mean_retention(one)) is not None
    ]
    axes = _axes(figure, 3.3)
    front: list[tuple[float, float]] = []
    for time, quality, _ in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or quality > front[-1][1]:
            front.append((time, quality))
    axes.step(*zip(*front, strict=True), where="post", color="#c3cad1", zorder=1) if front else None
    for time, quality, one in points:
        axes.plot(time, quality, linestyle="", markersize=8, label=one.name, **look(facts, one))
    _log(axes.xaxis)
    axes.margins(x=0.12, y=0.14)
    axes.set(xlabel=f"median time of one text of {length} tokens, ms", ylabel=f"mean retention, % of {_base(facts)}")
    return bool(points)


def latency(facts: Facts, figure: Any) -> bool:  # noqa: ANN401
    """Median time of one text by its length."""
    axes = _axes(figure, 3.3)
    for one in facts.variants:
        known = [(tokens, one.timed(tokens)["median_ms"]) for tokens in facts.lengths if one.timed(tokens)]
        if known:
            axes.plot(*zip(*known, strict=True), label=one.name, **look(facts, one))
    _log(axes.yaxis)
    _log(axes.xaxis, facts.lengths)
    axes.set(xlabel="length of the text, tokens", ylabel="median time, ms (this machine)")
    return bool(facts.lengths)


def retention(facts: Facts, figure: Any) -> bool:  # noqa: ANN401
    """Retention by task, each variant at its full dimension, with its limit as a stroke of the same colour."""
    axes = _axes(figure, 1.3 + 0.5 * len(facts.tasks))
    step = 0.7 / max(1, len(facts.variants) - 1)
    for at, one in enumerate(facts.variants):
        bounds = {c["on"]: c["bound"] for c in one.judged["checks"] if c["limit"] == "retention_min"}
        rows = [(row, facts.retention(one, task.name)) for row, task in enumerate(facts.tasks)]
        known = [(100 * value, row - 0.35 + at * step) for row, value in rows if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), linestyle="", label=one.name, **look(facts, one))
        limits = [(100 * bounds[facts.tasks[row].name], row - 0.35 + at * step) for row, _ in rows
                  if facts.tasks[row].name in bounds]  # fmt: skip
        if limits:
            colour = look(facts, one)["color"]
            axes.plot(*zip(*limits, strict=True), linestyle="", marker="|", markersize=9, markeredgecolor=colour)
    axes.set_yticks(range(len(facts.tasks)), [_short(task.name) for task in facts.tasks])
    axes.set_ylim(len(facts.tasks) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=f"% of {_base(facts)}; the stroke is the variant's limit")
    return bool(facts.tasks)


def matryoshka(facts: Facts, figure: Any) -> bool:  # noqa: ANN401
    """Score by dimension, one panel a task."""
    rows = -(-len(facts.tasks) // PANELS)
    if not facts.dimensions or not rows:
        return False
    figure.set_size_inches(WIDTH, 0.8 + 1.55 * rows)
    panels = figure.subplots(rows, PANELS, sharex=True, squeeze=False).flatten()
    for axes, task in zip(panels, facts.tasks, strict=False):
        for one in facts.variants:
            scored = [(dim, one.score(task.name, dim)) for dim in facts.dimensions]
            known = [(dim, value) for dim, value in scored if value is not None]
            if known:
                axes.plot(*zip(*known, strict=True), label=one.name, **look(facts, one))
        axes.set_title(f"{_short(task.name)}\n{task.metric}", loc="left")
        _log(axes.xaxis, facts.dimensions)
        axes.margins(y=0.15)
    for axes in panels[len(facts.tasks) :]:
        axes.set_visible(False)
    figure.supxlabel("dimensions kept", fontsize=STYLE["font.size"], color=INK)
    return True


def _svg(plot: Callable[[Facts, Any], bool], facts: Facts) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of the user's must not shape the bytes
        mpl.rcParams.update(STYLE | {"svg.hashsalt": plot.__name__})
        figure = Figure(layout="constrained")
        if not plot(facts, figure):
            return ""
        handles = {
            label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)),
                      columnspacing=1.2, handletextpad=0.4)  # fmt: skip
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return _ID.sub("", text[text.index("<svg") :])


def _axes(figure: Any, height: float) -> Any:  # noqa: ANN401
    figure.set_size_inches(WIDTH, height)
    return figure.subplots()


def _log(axis: Any, ticks: tuple[int, ...] = ()) -> None:  # noqa: ANN401
    """Make an axis logarithmic, with plain numbers on it: the ticks given, or 1-2-5 steps."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

    axis._set_axes_scale("log")
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", size=0)


def _base(facts: Facts) -> str:
    return facts.baseline.name


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
