"""The stages of the build, one room each; dvc.yaml tells their order. Stages share `common` and the runtime only."""

import logging

# Every process of a build imports this first. transformers imports these libraries where they are installed, and they
# recommend kernels that nothing here uses.
for _name in ("bitsandbytes", "torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
