"""OpenVINO variants: the base model's graph as OpenVINO IR, in fp32 or compressed by NNCF."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.config.variant import OpenvinoCompress, OpenvinoRecipe
from stages.convert import graph
from stages.convert.conversion import GRAPH_LIBRARIES, ConversionResult, Folders
from stages.convert.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from openvino import Model, Node

LIBRARIES = ("nncf", "openvino", *GRAPH_LIBRARIES)
GRAPH = "model.xml"
WEIGHTS = "model.bin"
# Embedding weights that share one scale at 4 bits; at 8 bits a whole row does, and where groups do not divide it.
EMBEDDING_GROUP = 32


def convert(folders: Folders, recipe: OpenvinoRecipe) -> ConversionResult:
    """Write the graph as IR, with the inputs and outputs of the ONNX graph it is read from.

    Raises:
        InputError: the architecture cannot be exported; the message carries the exporter's reason.
    """
    import openvino

    base, work = folders.base, folders.work
    exported = graph.export(base, recipe.opset, folders.cache, recipe.exporter)
    model = openvino.Core().read_model(exported)
    if recipe.compress:
        model = _compress(model, recipe.compress)
    openvino.save_model(model, work / GRAPH, compress_to_fp16=False)
    del model  # gigabytes, which parity needs
    _number_layers(work / GRAPH)
    exact = recipe.compress is None and recipe.inference_precision == "f32"
    return ConversionResult(
        files={"graph": GRAPH, "weights": WEIGHTS} | load_tokenizer(base, folders.cache).copy(work),
        dimensions=graph.read_dimensions(exported),
        batching="padded" if exact else "equal_length",
        exact=exact,
    )


def _compress(model: "Model", settings: OpenvinoCompress) -> "Model":
    """Return the model with integer weights: no calibration data, one scale an output channel or an embedding group."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    modes = {"int8_asym": nncf.CompressWeightsMode.INT8_ASYM, "int8_sym": nncf.CompressWeightsMode.INT8_SYM}
    mode = modes[settings.weights]
    if settings.embedding_bits == 4:
        lookups = [node for node in model.get_ops() if node.get_type_name() == "Gather"]
        names = {node.get_friendly_name() for node in lookups if _has_whole_groups(node)}
        others = [
            node.get_friendly_name()
            for node in model.get_ops()
            if node.get_type_name() in {"Gather", "MatMul"} and node.get_friendly_name() not in names
        ]
        model = nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT4_SYM,
            group_size=EMBEDDING_GROUP,
            all_layers=True,
            ignored_scope=nncf.IgnoredScope(names=others),
        )
        return nncf.compress_weights(model, mode=mode, ignored_scope=nncf.IgnoredScope(names=sorted(names)))
    return nncf.compress_weights(model, mode=mode)


def _has_whole_groups(lookup: "Node") -> bool:
    """Return whether 4-bit groups divide a table's rows; NNCF takes no others, so those tables get 8 bits."""
    width = lookup.input(0).get_partial_shape()[-1]
    return bool(width.is_static and width.get_length() % EMBEDDING_GROUP == 0)


def _number_layers(path: Path) -> None:
    """Name unnamed layers by their position: OpenVINO numbers them across a process, so bytes would differ."""
    unnamed = re.compile(r'<layer id="(\d+)" name="([A-Z][A-Za-z]*)(?:_\d+)+"')
    text = path.read_text(encoding="utf-8")
    path.write_text(unnamed.sub(r'<layer id="\1" name="\2_\1"', text), encoding="utf-8")
