"""convert@NAME: base model -> one variant folder, compared with the base model before it is complete.

In: the weights folder (finetune.weights). Out: variants/NAME/ (variant.json, its files, manifest.json).
Fails: 2 a recipe the base model cannot follow, 3 the input differs from its manifest, 75 another process converts NAME.
Target: the same bytes every time.
"""

from stages.convert.stage import CACHE, compute_space_id, run

__all__ = ["CACHE", "compute_space_id", "run"]
