"""The stages of the build, one room each; dvc.yaml tells their order. Stages share `common` and the runtime only."""

import logging
import os

# Every process of a build imports this first. transformers imports these libraries where they are installed, and they
# recommend kernels that nothing here uses.
for _name in ("bitsandbytes", "torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
# transformers draws a bar for every model that it loads, on a terminal too, where the stages have their own.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
