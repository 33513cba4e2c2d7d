"""The export to LiteRT (TFLite): a module of one length, traced by litert-torch."""

import gc
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry.errors import InputError
from embed_foundry.system_errors import retryable_error

from stages.convert.conversion import first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

# LiteRT's name of the only function of a file.
SERVING = "serving_default"


def export_litert(module: "nn.Module", length: int, path: Path) -> None:
    """Trace a module and write its graph, inputs and output named.

    Args:
        module: from input_ids and attention_mask [1, length] to a dictionary of outputs, in evaluation mode.
        length: tokens of every input.
        path: the file.

    Raises:
        InputError: see `export_signatures`.
    """
    import torch

    ids = torch.zeros((1, length), dtype=torch.int32)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    export_signatures({SERVING: (module, inputs)}, path)


def export_signatures(signatures: "Mapping[str, tuple[nn.Module, dict[str, Tensor]]]", path: Path) -> None:
    """Trace modules into one file, which has their shared weights once.

    Args:
        signatures: name -> a module in evaluation mode, from named inputs to a dictionary of outputs, and examples of
            its inputs.
        path: the file.

    Raises:
        InputError: litert-torch cannot convert the module; the message carries the first line of its reason.
    """
    # Silence what it prints to stderr at import, about kernels that no graph of ours uses, and while it works.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    import litert_torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about its own export
        try:
            converter = litert_torch
            for name, (module, inputs) in signatures.items():
                converter = converter.signature(name, module, sample_kwargs=inputs)
            exported = converter.convert()
            exported.export(str(path))
        except Exception as error:  # torch.export, torch_xla and MLIR have errors of their own
            raise retryable_error(error, path) or InputError(
                f"litert-torch cannot convert the model ({first_line(error)}). Leave tflite out of `variant`."
            ) from error
    path.chmod(0o644)
    del exported
    gc.collect()  # its gigabytes are in reference cycles
