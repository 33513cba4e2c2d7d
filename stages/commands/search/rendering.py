"""A search's points as a table and as a picture."""

import io
from collections.abc import Mapping

from stages.commands.search.points import Point
from stages.common.records.base import Failure


def render_table(points: Mapping[str, Point | Failure], front: set[str], lengths: list[int]) -> str:
    """Return the points as a Markdown table, those of the front first and bold, then by speed."""
    header = ["recipe", "MB", "cosine mean", "min", "at limit", "batch shift", *(f"{tokens} tok" for tokens in lengths)]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    speeds = {name: point.speedup if isinstance(point, Point) else 0.0 for name, point in points.items()}
    for name in sorted(points, key=lambda name: (name not in front, -speeds[name])):
        point = points[name]
        if isinstance(point, Failure):
            lines.append(f"| {name} | {point.error} |" + " |" * (len(header) - 2))
            continue
        cells = [f"**{name}**" if name in front else name, f"{point.size_mb:.0f}"]
        figures = (point.cosine_mean, point.cosine_min, point.at_limit, point.batch_shift_max)
        cells += ["-" if figure is None else f"{figure:.4f}" for figure in figures]
        cells += [f"{point.speedups[tokens]:.2f}x" for tokens in lengths]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot_front(points: Mapping[str, Point | Failure], front: set[str]) -> bytes:
    """Return a PNG of every point that has a cosine: speed-up against what is lost of the cosine, areas by size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, point in points.items():
        if isinstance(point, Point) and point.cosine_mean is not None:
            color = "tab:blue" if name in front else "tab:gray"
            loss = max(1 - point.cosine_mean, 1e-7)
            axes.scatter(point.speedup, loss, s=point.size_mb, color=color, alpha=0.5)
            axes.annotate(name, (point.speedup, loss), fontsize=7)
    axes.set(yscale="log", xlabel="times faster than the baseline (geometric mean)", ylabel="1 - cosine, mean")
    axes.invert_yaxis()
    png = io.BytesIO()
    figure.savefig(png, dpi=120, format="png")
    plt.close(figure)
    return png.getvalue()
