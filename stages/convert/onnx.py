"""ONNX Runtime variants: the base model's graph in fp32, or with its matrices and embedding in 8 or 4 bits."""

import math
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.config.variant import Blocks, OnnxQuantize, OnnxRecipe
from stages.common.contract.progress import bar
from stages.convert import calibration, graph
from stages.convert.conversion import GRAPH_LIBRARIES, ConversionResult, Folders
from stages.convert.rounding import blocks
from stages.convert.tokenizer import copy_tokenizer

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

LIBRARIES = ("onnxruntime", *GRAPH_LIBRARIES)
# Tables with fewer weights stay fp32: positions and token types are small and every token passes through them.
EMBEDDING_WEIGHTS = 1_000_000
# Weights that share a scale in the 8-bit matrices of a 4-bit variant. Not more: from 128 on, onnxruntime 1.31 computes
# one text and several by different kernels, and vectors move with the batch.
KEPT_BLOCK = 32
# The domain of onnxruntime's own operators, and the level at which MatMulNBits computes: 4 is with 8-bit activations.
DOMAIN, ACCURACY = "com.microsoft", 4


def convert(folders: Folders, recipe: OnnxRecipe) -> ConversionResult:
    """Export the SentenceTransformer to one graph: int64 input_ids, attention_mask [b, s] -> two named float32 outputs.

    Raises:
        InputError: the architecture cannot be exported; the message carries the exporter's reason.
    """
    base, work = folders.base, folders.work
    exported = graph.export(base, recipe.opset, folders.cache)
    if recipe.quantize:
        files = graph.save(_quantize(graph.load(exported), recipe.quantize, base, work), work / graph.GRAPH)
    else:
        files = graph.copy(exported, work / graph.GRAPH)
    return ConversionResult(
        files=files | copy_tokenizer(base, work),
        dimensions=graph.read_dimensions(exported),
        batching=_choose_batching(recipe.quantize),
    )


def _choose_batching(settings: OnnxQuantize | None) -> str:
    """Return which texts may share a call, so that no vector depends on the others in it."""
    if settings is None:
        return "padded"
    return "single" if settings.dynamic else "equal_length"


def _quantize(model: "ModelProto", settings: OnnxQuantize, base: Path, work: Path) -> "ModelProto":
    """Return the fp32 model, which is changed, with 8- or 4-bit weights; conf/variant says what each setting does."""
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        if settings.weights.bits == 4:
            _round_to_4_bits(model, settings, base, Path(scratch))
        _quantize_embedding(model, settings.embedding)
        if dynamic := _find_matrices(model, settings.dynamic):
            names = [node.name for node in dynamic]
            model = _quantize_dynamically(model, names, settings.reduce_range, Path(scratch))
        return _quantize_to_8_bits(model, settings.weights.block_size if settings.weights.bits == 8 else KEPT_BLOCK)


def _find_matrices(model: "ModelProto", patterns: list[str]) -> "list[NodeProto]":
    """Return the products with a weight matrix whose names match a pattern."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type == "MatMul"
        and node.input[1] in weights
        and any(re.search(pattern, node.name) for pattern in patterns)
    ]


def _quantize_embedding(model: "ModelProto", settings: Blocks) -> None:
    """Replace the lookup of token embeddings by one in a table of integers, in place.

    The operator is onnxruntime's GatherBlockQuantized. Its own quantizer writes 4-bit tables only, with fp32 scales: a
    fifth of such a table's size.
    """
    from onnx import TensorProto, helper, numpy_helper

    for index, node in enumerate(model.graph.node):
        if (table := _find_embedding(model, node)) is None:
            continue
        name, block = table.name, math.gcd(table.dims[1], settings.block_size)
        codes, scales = blocks.round_embedding(numpy_helper.to_array(table), settings.bits, block)
        model.graph.initializer.remove(table)
        model.graph.initializer.append(numpy_helper.from_array(codes, f"{name}.codes"))
        model.graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
        lookup = helper.make_node(
            "GatherBlockQuantized",
            [f"{name}.codes", node.input[1], f"{name}.scales"],
            [f"{name}.fp16"],
            name=f"{name}/lookup",
            domain=DOMAIN,
            bits=settings.bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
        cast = helper.make_node("Cast", [f"{name}.fp16"], list(node.output), name=f"{name}/cast", to=TensorProto.FLOAT)
        model.graph.node.remove(node)
        model.graph.node.insert(index, cast)
        model.graph.node.insert(index, lookup)
        _import_domain(model)
        return


def _find_embedding(model: "ModelProto", node: "NodeProto") -> "TensorProto | None":
    """Return the table of token embeddings, if that is what a node looks up in."""
    from onnx import TensorProto

    if node.op_type != "Gather":
        return None
    for table in model.graph.initializer:
        if table.name == node.input[0]:
            large = math.prod(table.dims) >= EMBEDDING_WEIGHTS
            return table if large and table.data_type == TensorProto.FLOAT else None
    return None


def _round_to_4_bits(model: "ModelProto", settings: OnnxQuantize, base: Path, scratch: Path) -> None:
    """Round all matrices but `keep_8_bit` to 4 bits by GPTQ, in place."""
    from onnx import helper, numpy_helper

    kept = {node.name for node in _find_matrices(model, settings.keep_8_bit)}
    nodes = [node for node in _find_matrices(model, [""]) if node.name not in kept]
    tensors = sorted({node.input[0] for node in nodes})
    hessians = calibration.compute_hessians(model, tensors, calibration.load_token_ids(base), scratch)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    with bar("convert: GPTQ", len(nodes)) as progress:
        for node in nodes:
            weight = weights[node.input[1]]
            matrix = numpy_helper.to_array(weight)
            block = math.gcd(len(matrix), settings.weights.block_size)
            codes, scales = blocks.round_matrix(matrix, hessians[node.input[0]], block)
            name = weight.name
            model.graph.initializer.append(numpy_helper.from_array(blocks.pack(codes, 4), f"{name}.codes"))
            model.graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
            model.graph.initializer.remove(weight)
            rounded = helper.make_node(
                "MatMulNBits",
                [node.input[0], f"{name}.codes", f"{name}.scales"],
                list(node.output),
                name=node.name,
                domain=DOMAIN,
                K=matrix.shape[0],
                N=matrix.shape[1],
                bits=4,
                block_size=block,
                accuracy_level=ACCURACY,
            )
            node.CopyFrom(rounded)
            progress.update(1)
    _import_domain(model)


def _quantize_dynamically(model: "ModelProto", nodes: list[str], reduce_range: bool, scratch: Path) -> "ModelProto":
    """Quantise these MatMuls' weights by channel and, at run time, their activations by tensor."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = scratch / "fp32.onnx", scratch / "dynamic.onnx"
    graph.save(model, source)
    quantize_dynamic(
        source,
        target,
        nodes_to_quantize=nodes,
        per_channel=True,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
    )
    return onnx.load(target)


def _quantize_to_8_bits(model: "ModelProto", block_size: int) -> "ModelProto":
    """Quantise the remaining matrices to nearest; the kernel rounds activations to 8 bits, one scale per block."""
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    settings = DefaultWeightOnlyQuantConfig(bits=8, block_size=block_size, is_symmetric=True, accuracy_level=ACCURACY)
    quantizer = MatMulNBitsQuantizer(model, algo_config=settings)
    quantizer.process()
    return quantizer.model.model


def _import_domain(model: "ModelProto") -> None:
    """Declare that the model uses onnxruntime's own operators."""
    from onnx import helper

    if not any(imported.domain == DOMAIN for imported in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
