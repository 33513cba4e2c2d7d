"""search: a declared list of recipes -> which of them no other beats in quality, speed and size. Not a DVC stage.

In: a YAML file of recipes (such as tests/benchmarks/recipes.yaml), params.yaml, the base model, data/.
Out: a folder with table.md, pareto.png, results.json and the converted variants, which the next run reuses.
Fails: 2 a recipe the schema refuses or the model cannot follow, 3 an input differs from its manifest.
"""

from stages.commands.search.command import run

__all__ = ["run"]
