"""ONNX Runtime variants: the base model's graph in fp32, or with its matrices and embedding in 8 or 4 bits."""

import math
import re
import tempfile
from pathlib import Path
from typing import Any

from stages.common.config.variant import Blocks, OnnxQuantize, OnnxRecipe
from stages.common.contract.progress import bar
from stages.convert import calibrate, graph, rounding
from stages.convert.conversion import ConversionResult
from stages.convert.tokenizer import copy_tokenizer

GRAPH = "model.onnx"
# Tables with fewer weights stay fp32: positions and token types are small and every token passes through them.
EMBEDDING_WEIGHTS = 1_000_000
# Weights that share a scale in the 8-bit matrices of a 4-bit variant. Not more: from 128 on, onnxruntime 1.31 computes
# one text and several by different kernels, and vectors move with the batch.
KEPT_BLOCK = 32
# Operators of onnxruntime's own, and the level at which MatMulNBits computes: 4 is with 8-bit activations.
DOMAIN, ACCURACY = "com.microsoft", 4


def convert(base: Path, recipe: OnnxRecipe, work: Path) -> ConversionResult:
    """Export the SentenceTransformer to one graph: int64 input_ids, attention_mask [b, s] -> two named float32 outputs.

    Raises:
        InputError: the architecture cannot be exported; the message carries the exporter's reason.
    """
    exported = graph.export(base, recipe.opset)
    dimensions = graph.dimensions(exported)
    if recipe.quantize:
        exported = quantize(exported, recipe.quantize, base, work)
    files = graph.save(exported, work / GRAPH)
    return ConversionResult(
        files=files | copy_tokenizer(base, work), dimensions=dimensions, batching=batching(recipe.quantize)
    )


def batching(settings: OnnxQuantize | None) -> str:
    """Return which texts may share a call, so that no vector depends on the others in it."""
    if settings is None:
        return "padded"
    return "single" if settings.dynamic else "equal_length"


def quantize(exported: Any, settings: OnnxQuantize, base: Path, work: Path) -> Any:  # noqa: ANN401 - onnx has no types
    """Return the graph with 8- or 4-bit weights; see conf/variant for what each setting does.

    Args:
        exported: the fp32 graph; it is changed.
        settings: the recipe.
        base: the base model's folder, for its tokenizer and prompts.
        work: a folder for scratch files.
    """
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        if settings.weights.bits == 4:
            _four_bit(exported, settings, base, Path(scratch))
        _embedding(exported, settings.embedding)
        if dynamic := _matrices(exported, settings.dynamic):
            exported = _dynamic(exported, [node.name for node in dynamic], settings.reduce_range, Path(scratch))
        return _eight_bit(exported, settings.weights.block_size if settings.weights.bits == 8 else KEPT_BLOCK)


def _matrices(exported: Any, patterns: list[str]) -> list[Any]:  # noqa: ANN401
    """Return the products with a weight matrix whose names match a pattern."""
    weights = {item.name for item in exported.graph.initializer}
    return [
        node
        for node in exported.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and any(re.search(one, node.name) for one in patterns)
    ]


def _embedding(exported: Any, blocks: Blocks) -> None:  # noqa: ANN401
    """Replace the lookup of token embeddings by one in a table of integers, in place.

    The operator is onnxruntime's GatherBlockQuantized. Its own quantizer writes 4-bit tables only, with fp32 scales: a
    fifth of such a table's size.
    """
    from onnx import TensorProto, helper, numpy_helper

    tables = {item.name: item for item in exported.graph.initializer}
    for at, node in enumerate(exported.graph.node):
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.data_type != TensorProto.FLOAT or math.prod(table.dims) < EMBEDDING_WEIGHTS:
            continue
        name, block = table.name, math.gcd(table.dims[1], blocks.block_size)
        codes, scales = rounding.table(numpy_helper.to_array(table), blocks.bits, block)
        exported.graph.initializer.remove(table)
        exported.graph.initializer.append(numpy_helper.from_array(codes, f"{name}.codes"))
        exported.graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
        lookup = helper.make_node(
            "GatherBlockQuantized",
            [f"{name}.codes", node.input[1], f"{name}.scales"],
            [f"{name}.fp16"],
            name=f"{name}/lookup",
            domain=DOMAIN,
            bits=blocks.bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
        cast = helper.make_node("Cast", [f"{name}.fp16"], list(node.output), name=f"{name}/cast", to=TensorProto.FLOAT)
        exported.graph.node.remove(node)
        exported.graph.node.insert(at, cast)
        exported.graph.node.insert(at, lookup)
        _import_domain(exported)
        return


def _four_bit(exported: Any, settings: OnnxQuantize, base: Path, scratch: Path) -> None:  # noqa: ANN401
    """Round all matrices but `keep_8_bit` to 4 bits by GPTQ, in place."""
    from onnx import helper, numpy_helper

    kept = {node.name for node in _matrices(exported, settings.keep_8_bit)}
    nodes = [node for node in _matrices(exported, [""]) if node.name not in kept]
    tensors = sorted({node.input[0] for node in nodes})
    seen = calibrate.hessians(exported, tensors, calibrate.token_ids(base), scratch)
    weights = {item.name: item for item in exported.graph.initializer}
    with bar("GPTQ", len(nodes)) as progress:
        for node in nodes:
            weight = weights[node.input[1]]
            matrix = numpy_helper.to_array(weight)
            block = math.gcd(len(matrix), settings.weights.block_size)
            codes, scales = rounding.gptq(matrix, seen[node.input[0]].copy(), block)
            name = weight.name
            exported.graph.initializer.append(numpy_helper.from_array(rounding.packed(codes, 4), f"{name}.codes"))
            exported.graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
            exported.graph.initializer.remove(weight)
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
    _import_domain(exported)


def _dynamic(exported: Any, nodes: list[str], reduce_range: bool, scratch: Path) -> Any:  # noqa: ANN401
    """Quantise these MatMuls' weights a channel and, at run time, their activations a tensor."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = scratch / "fp32.onnx", scratch / "dynamic.onnx"
    graph.save(exported, source)
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


def _eight_bit(exported: Any, block_size: int) -> Any:  # noqa: ANN401
    """Quantise the remaining matrices to nearest; the kernel rounds activations to 8 bits, a scale a block."""
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    settings = DefaultWeightOnlyQuantConfig(bits=8, block_size=block_size, is_symmetric=True, accuracy_level=ACCURACY)
    quantizer = MatMulNBitsQuantizer(exported, algo_config=settings)
    quantizer.process()
    return quantizer.model.model


def _import_domain(exported: Any) -> None:  # noqa: ANN401
    from onnx import helper

    if not any(item.domain == DOMAIN for item in exported.opset_import):
        exported.opset_import.append(helper.make_opsetid(DOMAIN, 1))
