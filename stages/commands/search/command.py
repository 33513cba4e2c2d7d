"""The search command: recipes in, converted and measured variants and their front out."""

from pathlib import Path

from embed_foundry import manifest
from embed_foundry.errors import IntegrityError
from embed_foundry.output.folder import replace_file
from embed_foundry.timing.worker_pool import WorkerPool

from stages import convert, latency
from stages.commands.search.points import SearchResults, build_point, find_front
from stages.commands.search.recipes import build_recipe, load_search
from stages.commands.search.rendering import plot_front, render_table
from stages.common import config
from stages.common.config.variant import Recipe
from stages.latency.control_groups import enforce


def run(path: Path, params: config.Params, base: Path, data: Path, out: Path) -> str:
    """Convert and measure every recipe of a search file and return the table as Markdown.

    Args:
        path: the search file.
        params: the composed configuration; its model, baseline, threads and latency settings are used.
        base: the verified weights folder.
        data: the suite's folder; timed texts are cut from its documents.
        out: where results and converted variants are kept.

    Raises:
        InputError: the file or a recipe is not valid, or the model cannot be converted by one.
        IntegrityError: an input differs from its manifest, or the baseline fails.
    """
    search = load_search(path)
    recipes = {params.baseline: params.variants[params.baseline]} | {
        name: build_recipe(name, changes) for name, changes in search.recipes.items()
    }
    folders = {name: out / "variants" / name for name in recipes}
    for name, folder in folders.items():
        if not _is_converted(folder, recipes[name], base):
            convert.run(name, recipes[name], params.model, base, folder, cache=convert.CACHE)
    settings = params.latency.model_copy(
        update={"lengths": search.lengths, "rounds": search.rounds, "cold_starts": 1, "batch_rounds": 6}
    )
    resources = params.target.resources
    with (
        enforce(resources, list(folders), any_memory=(params.baseline,)) as groups,
        WorkerPool(
            folders,
            params.baseline,
            resources.threads,
            prefixes=groups.prefixes,
            providers=params.target.host.providers,
            repair=f"Next: dvc repro convert@{params.baseline}.",
        ) as pool,
    ):
        times = latency.measure(settings, pool, data, quota=groups.throttles).variants
        quota_record = groups.to_record()
    points = {name: build_point(folders[name], times[name]) for name in search.recipes}
    front = find_front(points)
    results = SearchResults(points=points, front=sorted(front), quota=quota_record)
    replace_file(out / "results.json", results.dump())
    table = render_table(points, front, search.lengths)
    replace_file(out / "table.md", table.encode())
    replace_file(out / "pareto.png", plot_front(points, front))
    return table


def _is_converted(folder: Path, recipe: Recipe, base: Path) -> bool:
    """Return whether a folder holds this recipe's variant of this base model, intact."""
    try:
        recorded = manifest.verify(folder)
    except IntegrityError:
        return False
    same_recipe = recorded.parameters["variant"] == recipe.model_dump(mode="json")
    return bool(same_recipe and recorded.inputs == {"base": manifest.read(base).digest})
