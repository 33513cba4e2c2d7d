"""Figures as SVG text, the same bytes for the same figures: fixed ids, no date, matplotlib's own font."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # matplotlib is imported late
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
_ID = re.compile(r' id="[A-Za-z0-9.]+_\d+"')  # figure_1, text_2 …: nothing refers to them, and pages hold many figures


def render_svg(name: str, plot: Callable[["Figure"], None]) -> str:
    """Return the SVG element of a plot; "" if nothing in it has a label.

    Args:
        name: seeds the ids in the SVG.
        plot: draws into the figure that it is given.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of the user's must not shape the bytes
        mpl.rcParams.update(STYLE | {"svg.hashsalt": name})
        figure = Figure(layout="constrained")
        plot(figure)
        handles = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if not handles:
            return ""
        tight = {"columnspacing": 1.1, "handletextpad": 0.3, "handlelength": 1.4}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)), **tight)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    text = svg.getvalue()
    return _ID.sub("", text[text.index("<svg") :])


def make_logarithmic(axes: "Axes", which: str, ticks: tuple[int, ...] = ()) -> None:
    """Make an axis logarithmic, with plain numbers on it: at the given ticks, or at some in every decade."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_data_interval()
    steps = (1, 2, 5) if high > 10 * low else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=steps))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", size=0)
