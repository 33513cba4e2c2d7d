"""The report's plots as SVG text, the same bytes for the same figures: fixed ids, no date, matplotlib's own font."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from stages.report.facts import Facts, Seen

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that fades on white; the marker
# says the same once more. Both repeat out of step, so that 56 variants differ.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#3a4149"
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: texts are measured alike everywhere
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
_ID = re.compile(r' id="[A-Za-z0-9.]+_\d+"')  # figure_1, text_2 …: nothing refers to them, and pages hold many figures


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


def tradeoff(facts: Facts, figure: Any) -> None:  # noqa: ANN401 - matplotlib is imported late
    """Mean retention over the tasks against the median time of one text, with the front that nothing dominates."""
    length = middle(facts) if facts.lengths else 0
    points = [
        (one.timed(length)["median_ms"], 100 * quality, one)
        for one in facts.variants
        if one.timed(length) and (quality := facts.mean_retention(one)) is not None
    ]
    front: list[tuple[float, float]] = []
    for time, quality, _ in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or quality > front[-1][1]:
            front.append((time, quality))
    axes = _axes(figure, 3.3)
    _line(axes, front, drawstyle="steps-post", color="#c3cad1", zorder=1)
    for time, quality, one in points:
        _line(axes, [(time, quality)], linestyle="", markersize=8, label=one.name, **look(facts, one))
    _log(axes, "x")
    axes.margins(x=0.12, y=0.14)
    axes.set(xlabel=f"median time of one text of {length} tokens, ms", ylabel=f"mean retention, % of {_base(facts)}")


def latency(facts: Facts, figure: Any) -> None:  # noqa: ANN401
    """Median time of one text by its length."""
    axes = _axes(figure, 3.3)
    for one in facts.variants:
        timed = [(tokens, one.timed(tokens).get("median_ms")) for tokens in facts.lengths]
        _line(axes, timed, label=one.name, **look(facts, one))
    _log(axes, "y")
    _log(axes, "x", facts.lengths)
    axes.set(xlabel="length of the text, tokens", ylabel="median time, ms (this machine)")


def retention(facts: Facts, figure: Any) -> None:  # noqa: ANN401
    """Retention by task, each variant at its full dimension: with its bounds, and its limit as a stroke."""
    axes = _axes(figure, 1.1 + 0.62 * len(facts.tasks))
    names = [task.name for task in facts.tasks]
    step = 0.7 / max(1, len(facts.variants) - 1)
    for at, one in enumerate(facts.variants):
        style = look(facts, one)
        rows = [(row - 0.35 + at * step, task) for row, task in enumerate(names)]
        kept = {task: facts.retention(one, task) for task in names}
        checks = {check["on"]: check for check in one.judged["checks"] if check["limit"] == "retention_min"}
        bounds = {task: check["bound"] for task, check in checks.items()}
        _line(axes, [(_percent(kept[task]), row) for row, task in rows], linestyle="", label=one.name, **style)
        for row, task in rows:
            if (check := checks.get(task)) and check["high"] is not None:
                ends = [(_percent(check["value"]), row), (_percent(check["high"]), row)]
                _line(axes, ends, color=style["color"], linewidth=1.2)
        stroke = {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "markeredgecolor": style["color"]}
        _line(axes, [(_percent(bounds.get(task)), row) for row, task in rows], linestyle="", **stroke)
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color=STYLE["grid.color"], linewidth=STYLE["grid.linewidth"])
    axes.set(xlabel=f"% of {_base(facts)}; the line: its bounds; the stroke: its limit")


def matryoshka(facts: Facts, figure: Any) -> None:  # noqa: ANN401
    """Score by dimension, one panel a task."""
    rows = max(1, -(-len(facts.tasks) // PANELS))
    figure.set_size_inches(WIDTH, 0.8 + 1.55 * rows)
    panels = figure.subplots(rows, PANELS, sharex=True, squeeze=False).flatten()
    for axes, task in zip(panels, facts.tasks, strict=False):
        for one in facts.variants:
            scored = [(kept, one.score(task.name, kept)) for kept in facts.dimensions]
            _line(axes, scored, label=one.name, **look(facts, one))
        axes.set_title(f"{_short(task.name)}\n{task.metric}", loc="left")
        _log(axes, "x", facts.dimensions)
        axes.margins(y=0.15)
    for axes in panels[len(facts.tasks) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(facts.tasks) - PANELS) : len(facts.tasks)]:  # the lowest of each column
        axes.set_xlabel("dimensions kept")
        axes.tick_params(labelbottom=True)


def _line(axes: Any, points: Sequence[tuple[float | None, float | None]], **style: Any) -> None:  # noqa: ANN401
    """Plot the points of which both coordinates are known; nothing, and nothing in the legend, if there are none."""
    known = [point for point in points if None not in point]
    if known:
        axes.plot(*zip(*known, strict=True), **style)


def _svg(plot: Callable[[Facts, Any], None], facts: Facts) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of the user's must not shape the bytes
        mpl.rcParams.update(STYLE | {"svg.hashsalt": plot.__name__})
        figure = Figure(layout="constrained")
        plot(facts, figure)
        handles = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if not handles:
            return ""
        tight = {"columnspacing": 1.1, "handletextpad": 0.3, "handlelength": 1.4}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)), **tight)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return _ID.sub("", text[text.index("<svg") :])


def _axes(figure: Any, height: float) -> Any:  # noqa: ANN401
    figure.set_size_inches(WIDTH, height)
    return figure.subplots()


def _log(axes: Any, which: str, ticks: tuple[int, ...] = ()) -> None:  # noqa: ANN401
    """Make an axis logarithmic, with plain numbers on it: the ticks given, or some in every decade."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_data_interval()
    steps = (1, 2, 5) if high > 10 * low else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=steps))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", size=0)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _base(facts: Facts) -> str:
    return facts.baseline.name


def _short(name: str, most: int = 27) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
