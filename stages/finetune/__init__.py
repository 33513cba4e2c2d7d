"""finetune@METHOD: base model + examples -> a merged full-precision model, from which conversions start.

In: models/base, data/ (whose texts are kept out of training), botocore's text, or your triplets or documents.
Out: finetune/METHOD/: model/ (merged, with a manifest of its own), adapter/, triplets/, training.json, metrics.json,
train.csv, dev.csv, speed.json. Checkpoints stay in .cache/finetune until the stage is done.
Fails: 2 unusable data or settings, a non-finite loss, out of memory; 3 merged and adapted vectors differ, or an
input differs from its manifest; 5 the LLM endpoint refuses; 75 it is busy, another process writes here, disk full.
Target: on a CPU the same bytes in model/ and adapter/ for the same seed; only speed.json is measured.
"""

from stages.finetune.stage import run

__all__ = ["run"]
