"""search: a declared list of recipes -> which of them no other beats in quality, speed and size. Not a DVC stage.

In: a YAML file of recipes (such as tests/benchmarks/recipes.yaml), params.yaml, the base model, data/.
Out: a folder with table.md, pareto.png, results.json and the converted variants, which the next run reuses.
Fails: 2 a recipe the schema refuses or the model cannot follow, 3 an input differs from its manifest.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from embed_foundry import Variant, manifest
from embed_foundry.errors import InputError, IntegrityError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stages import convert, latency
from stages.common import config
from stages.common.config.variant import Recipe
from stages.common.contract.output import folder_size
from stages.latency import quota
from stages.latency.team import Team

MB = 1_000_000
RECIPES = Path("conf/variant")
# What a point of the front may not lose in without winning elsewhere, and whether more is better.
AXES = {"cosine_mean": True, "speedup": True, "size_mb": False}


class Search(BaseModel):
    """The content of a search file.

    Attributes:
        lengths: tokens at which speed-ups are measured.
        rounds: timed rounds a length.
        recipes: name to a variant's recipe: `of` names one of conf/variant, the other keys change it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lengths: list[int] = Field(min_length=1)
    rounds: int = Field(ge=6)
    recipes: dict[str, dict[str, Any]] = Field(min_length=1)


def run(path: Path, params: config.Params, base: Path, data: Path, out: Path) -> str:
    """Convert and measure every recipe of a search file and return the table as Markdown.

    Args:
        path: the search file.
        params: the composed configuration; its model, baseline, threads and latency settings are used.
        base: the verified weights folder.
        data: the suite's folder; timed texts are cut from its documents.
        out: where results and converted variants are kept.

    Raises:
        InputError: the file or a recipe is not valid, or the model cannot be converted so.
        IntegrityError: an input differs from its manifest, or the baseline fails.
    """
    search = read(path)
    wanted = {params.baseline: params.variants[params.baseline]} | {
        name: recipe_of(name, changes) for name, changes in search.recipes.items()
    }
    folders = {name: out / "variants" / name for name in wanted}
    for name, folder in folders.items():
        if not _converted(folder, wanted[name], base):
            convert.run(name, wanted[name], params.model, base, folder, cache=convert.CACHE)
    settings = params.latency.model_copy(
        update={"lengths": search.lengths, "rounds": search.rounds, "cold_starts": 1, "batch_rounds": 6}
    )
    resources = params.target.resources
    with (
        quota.enforced(resources.cpus) as held,
        Team(folders, params.baseline, resources.threads, prefix=held.prefix) as team,
    ):
        times, _, _ = latency.measure(settings, team, data)
        enforced = held.record()
    points = {name: _point(folders[name], times[name]) for name in search.recipes}
    best = front({name: point for name, point in points.items() if "error" not in point})
    (out / "results.json").write_bytes(manifest.canonical({"points": points, "front": sorted(best), "quota": enforced}))
    text = table(points, best, search.lengths)
    (out / "table.md").write_text(text, encoding="utf-8")
    plot(points, best, out / "pareto.png")
    return text


def read(path: Path) -> Search:
    """Read a search file.

    Raises:
        InputError: missing, not YAML, or not what `Search` allows.
    """
    try:
        return Search.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise InputError(f"{path}: not a search file ({error}). Start from tests/benchmarks/recipes.yaml.") from None


def recipe_of(name: str, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe of conf/variant with changes.

    Raises:
        InputError: there is no such recipe, or the schema refuses the changed one.
    """
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if changes.get("of") not in known:
        raise InputError(f"search: recipe {name} is `of` {changes.get('of')!r}; expected one of {known}.")
    start = yaml.safe_load((RECIPES / f"{changes['of']}.yaml").read_text(encoding="utf-8"))
    changed = _merged(start, {key: value for key, value in changes.items() if key != "of"})
    try:
        recipe: Recipe = TypeAdapter(Recipe).validate_python(changed)
    except ValidationError as error:
        raise InputError(f"search: recipe {name} is not valid ({error}).") from None
    return recipe


def front(points: Mapping[str, Mapping[str, float]]) -> set[str]:
    """Return the names of points that no other point equals or beats on every axis and beats on one."""
    signed = {
        name: tuple(point[axis] if more else -point[axis] for axis, more in AXES.items())
        for name, point in points.items()
    }
    return {
        name
        for name, mine in signed.items()
        if not any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in signed.values())
    }


def table(points: Mapping[str, Mapping[str, Any]], best: set[str], lengths: list[int]) -> str:
    """Return the points as a Markdown table, those on the front first and bold, then by speed."""
    head = ["recipe", "MB", "cosine mean", "min", "at limit", "batch shift", *(f"{tokens} tok" for tokens in lengths)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    order = sorted(points, key=lambda name: (name not in best, -points[name].get("speedup", 0.0)))
    for name in order:
        point = points[name]
        if "error" in point:
            lines.append(f"| {name} | {point['error']} |" + " |" * (len(head) - 2))
            continue
        shown = [f"**{name}**" if name in best else name, f"{point['size_mb']:.0f}"]
        shown += [f"{point[key]:.4f}" for key in ("cosine_mean", "cosine_min", "at_limit", "batch_shift_max")]
        shown += [f"{point['speedups'][str(tokens)]:.2f}x" for tokens in lengths]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def plot(points: Mapping[str, Mapping[str, Any]], best: set[str], path: Path) -> None:
    """Write the front as a picture: speed-up against what is lost of the cosine, areas by size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, point in points.items():
        if "error" not in point:
            color = "tab:blue" if name in best else "tab:gray"
            lost = max(1 - point["cosine_mean"], 1e-7)
            axes.scatter(point["speedup"], lost, s=point["size_mb"], color=color, alpha=0.5)
            axes.annotate(name, (point["speedup"], lost), fontsize=7)
    axes.set(yscale="log", xlabel="times faster than the baseline (geometric mean)", ylabel="1 - cosine, mean")
    axes.invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _point(folder: Path, timed: Mapping[str, Any]) -> dict[str, Any]:
    parity = Variant.load(folder).parity
    for part in (parity, timed):
        if "error" in part:
            return {"error": part["error"]}
    speedups = {tokens: facts["speedup"]["median"] for tokens, facts in timed["lengths"].items()}
    return {
        "size_mb": round(folder_size(folder) / MB, 1),
        "speedup": round(math.exp(sum(map(math.log, speedups.values())) / len(speedups)), 3),
        "speedups": speedups,
        "cold_start_s": timed["cold_start_s"]["median"],
        "peak_rss_mb": timed["peak_rss_mb"],
    } | {key: parity.get(key, math.nan) for key in ("cosine_mean", "cosine_min", "at_limit", "batch_shift_max")}


def _converted(folder: Path, recipe: Recipe, base: Path) -> bool:
    """Return whether a folder holds this recipe's variant of this base model, whole, by this build's libraries."""
    try:
        known = manifest.verify(folder)
    except IntegrityError:
        return False
    same = known.parameters["variant"] == recipe.model_dump(mode="json")
    return bool(same and known.inputs == {"base": manifest.read(base).digest})


def _merged(start: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `start` with `changes` laid over it, mapping by mapping."""
    both = dict(start)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = _merged(both[key], value) if nested else value
    return both
