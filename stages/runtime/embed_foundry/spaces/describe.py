"""A comparison as text, Markdown or JSON."""

from collections.abc import Iterator
from dataclasses import asdict

from ..contract import ShippedVariant
from ..manifest import JsonObject
from .bounds import Bounds
from .comparison import Answer, Comparison, Side
from .measure import TaskComparison

NEXT = {
    Answer.IDENTICAL: "Keep the index.",
    Answer.SAME_SPACE: "Keep the index.",
    Answer.MAPPABLE: "Map the index (embed-foundry map), or embed all documents again for the rest of the quality.",
    Answer.RE_EMBED: "Embed all documents again, and switch queries and index together.",
}
Rows = list[tuple[str, ...]]


def to_text(comparison: Comparison) -> Iterator[str]:
    """Yield the lines for a terminal."""
    yield f"{comparison.answer}: {comparison.reason}"
    yield NEXT[comparison.answer]
    for title, rows in _tables(comparison):
        yield ""
        yield title
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def to_markdown(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of a Markdown document."""
    yield f"**{comparison.answer}**: {comparison.reason} {NEXT[comparison.answer]}"
    for title, rows in _tables(comparison):
        yield from ("", f"### {title}", "")
        header, *body = rows
        yield f"| {' | '.join(header)} |"
        yield f"|{'---|' * len(header)}"
        for row in body:
            yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


def to_json(comparison: Comparison) -> JsonObject:
    """Return the comparison as one JSON object."""
    sides = {
        name: {"label": side.label, "model": side.bundle.contract.model, "target": side.bundle.contract.target}
        | asdict(side.space)
        for name, side in (("old", comparison.old), ("new", comparison.new))
    }
    return {
        "answer": comparison.answer.value,
        "reason": comparison.reason,
        "kept_min": comparison.kept_min,
        **sides,
        "differences": dict(_list_differences(comparison.old, comparison.new)),
        "tasks": [asdict(task) for task in comparison.tasks],
    }


def _tables(comparison: Comparison) -> Iterator[tuple[str, Rows]]:
    old, new = comparison.old, comparison.new
    header = ("", old.label, new.label)
    if old.label == new.label:
        header = ("", "old", "new")
    differences = [(name, before, after) for name, (before, after) in _list_differences(old, new)]
    yield "What differs", [header, *differences] if differences else [header, ("nothing", "", "")]
    yield "As measured at release", [header, *_list_figures(old, new)]
    if comparison.tasks:
        columns = ("texts", "queries", "new / old", "new over old index", "old over new index", "mapped", "overlap@10")
        yield "Shares of nDCG@10 [95 % bounds]", [columns, *map(_describe_task, comparison.tasks)]


def _list_differences(old: Side, new: Side) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield what is different: name -> (old, new)."""
    pairs = [
        ("release", old.bundle.digest[:12], new.bundle.digest[:12]),
        ("model", *(f"{side.bundle.contract.model} {_revision(side)}".strip() for side in (old, new))),
        ("target", old.bundle.contract.target, new.bundle.contract.target),
        ("variant", old.variant, new.variant),
        ("files", old.space.digest[:12], new.space.digest[:12]),
        ("vector space", old.space.space_id, new.space.space_id),
        ("dimensions", str(old.space.dimensions), str(new.space.dimensions)),
    ]
    before, after = _libraries(old), _libraries(new)
    pairs += [(name, before.get(name, "-"), after.get(name, "-")) for name in sorted({*before, *after})]
    yield from ((name, (left, right)) for name, left, right in pairs if left != right)


def _revision(side: Side) -> str:
    return str(side.bundle.raw.get("model", {}).get("revision", ""))[:12]


def _libraries(side: Side) -> dict[str, str]:
    """Return the libraries that made the release."""
    libraries = side.bundle.raw.get("build", {}).get("libraries", [])
    return {str(entry["name"]): str(entry["version"]) for entry in libraries}


def _list_figures(old: Side, new: Side) -> Iterator[tuple[str, str, str]]:
    """Yield what both releases' own builds measured."""
    left, right = (_figures(side.bundle.contract.variants[side.variant]) for side in (old, new))
    left |= _scores(old)
    right |= _scores(new)
    yield from ((name, left.get(name, "-"), right.get(name, "-")) for name in dict.fromkeys([*left, *right]))


def _figures(shipped: ShippedVariant) -> dict[str, str]:
    figures = {"MB": f"{shipped.size_mb:g}"}
    if shipped.peak_rss_mb is not None:
        figures["peak memory, MB"] = f"{shipped.peak_rss_mb:g}"
    return figures | {
        f"speed-up, {tokens} tokens": f"{ratio:.2f}x" for tokens, ratio in sorted(shipped.speedup.items())
    }


def _scores(side: Side) -> dict[str, str]:
    quality = side.bundle.raw["variants"][side.variant]["measured"]["quality"]
    return {f"{task}, {score['metric']}": f"{score['score']:.4f}" for task, score in sorted(quality.items())}


def _describe_task(task: TaskComparison) -> tuple[str, ...]:
    labels = "" if task.labelled else ", no labels"
    overlap = f"{task.overlap:.3f}" + ("" if task.mixed_overlap is None else f", mixed {task.mixed_overlap:.3f}")
    shares = (task.quality, task.new_over_old, task.old_over_new, task.mapped)
    return (f"{task.name}{labels}", str(task.queries), *map(_describe_bounds, shares), overlap)


def _describe_bounds(bounds: Bounds | None) -> str:
    return "-" if bounds is None else str(bounds)
