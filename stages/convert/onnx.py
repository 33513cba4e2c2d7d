"""ONNX Runtime variants: the base model's graph in fp32, or with its matrices and embedding in 8 or 4 bits."""

import math
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from embed_foundry.progress import bar
from numpy.typing import NDArray

from stages.common.config.variant import Blocks, OnnxQuantize, OnnxRecipe
from stages.convert import calibration, graph
from stages.convert.conversion import GRAPH_LIBRARIES, ConversionResult, Folders
from stages.convert.rounding import blocks
from stages.convert.tokenizer import BaseTokenizer, load_tokenizer

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

LIBRARIES = ("onnxruntime", *GRAPH_LIBRARIES)
# Tables with fewer weights stay fp32: positions and token types are small and every token passes through them.
EMBEDDING_WEIGHTS = 1_000_000
# Operators that leave token ids what they are.
PASSING = {"Cast", "Clip", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
# Weights that share a scale in the 8-bit matrices of a 4-bit variant. Not more: from 128 on, onnxruntime 1.31 computes
# one text and several by different kernels, and vectors move with the batch.
KEPT_BLOCK = 32
# The domain of onnxruntime's own operators, and its numbers for what MatMulNBits computes with.
DOMAIN = "com.microsoft"
ACCURACY_LEVELS = {"fp32": 1, "int8": 4}
# Scales of token embeddings: half precision takes less room, but not every GPU has it. What computes in fp32 is what
# browsers get.
SCALES: dict[str, type[np.floating[Any]]] = {"fp32": np.float32, "int8": np.float16}


def convert(folders: Folders, recipe: OnnxRecipe) -> ConversionResult:
    """Export the SentenceTransformer to one graph: int64 input_ids, attention_mask [b, s] -> two named float32 outputs.

    Raises:
        InputError: the architecture cannot be exported; the message carries the exporter's reason.
    """
    base, work = folders.base, folders.work
    tokenizer = load_tokenizer(base, folders.cache)
    exported = graph.export(base, recipe.opset, folders.cache, recipe.exporter)
    if recipe.quantize:
        files = graph.save(_quantize(graph.load(exported), recipe.quantize, tokenizer, work), work / graph.GRAPH)
    else:
        files = graph.copy(exported, work / graph.GRAPH)
    return ConversionResult(
        files=files | tokenizer.copy(work),
        dimensions=graph.read_dimensions(exported),
        batching=_choose_batching(recipe.quantize),
        exact=recipe.quantize is None,
    )


def _choose_batching(settings: OnnxQuantize | None) -> str:
    """Return which texts may share a call, so that no vector depends on the others in it."""
    if settings is None:
        return "padded"
    return "single" if settings.dynamic else "equal_length"


def _quantize(model: "ModelProto", settings: OnnxQuantize, tokenizer: BaseTokenizer, work: Path) -> "ModelProto":
    """Return the fp32 model, which is changed, with 8- or 4-bit weights; conf/variant says what each setting does."""
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        if settings.weights.bits == 4:
            _round_to_4_bits(model, settings, tokenizer, Path(scratch))
        _quantize_embedding(model, settings.embedding, SCALES[settings.activations])
        if dynamic := _find_dynamic(model, settings.dynamic):
            names = [node.name for node in dynamic]
            model = _quantize_dynamically(model, names, settings.reduce_range, Path(scratch))
        model = _quantize_to_8_bits(model, settings.weights.block_size if settings.weights.bits == 8 else KEPT_BLOCK)
    _set_activations(model, ACCURACY_LEVELS[settings.activations])
    return model


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


def _find_dynamic(model: "ModelProto", patterns: list[str]) -> "list[NodeProto]":
    """Return the matrices whose activations get one scale per call, and say so if the patterns name none."""
    matrices = _find_matrices(model, patterns)
    if patterns and not matrices:
        effect = "All get 8-bit weights in blocks, which are slower and no less exact. Add a pattern if speed matters."
        _warn_of_no_match(model, "dynamic", patterns, effect)
    return matrices


def _warn_of_no_match(model: "ModelProto", setting: str, patterns: list[str], effect: str) -> None:
    """Say that a setting's patterns name no matrix, which names there are, and what follows from it."""
    names = sorted({node.name for node in _find_matrices(model, [""])})
    warnings.warn(
        f"quantize.{setting} {patterns} matches no matrix of this model, such as {names[:3]}. {effect}", stacklevel=3
    )


def _quantize_embedding(model: "ModelProto", settings: Blocks, scale_type: type[np.floating[Any]]) -> None:
    """Replace the lookup of token embeddings by one in a table of integers, in place.

    The operator is onnxruntime's GatherBlockQuantized. Its own quantizer writes 4-bit tables only, with fp32 scales: a
    fifth of such a table's size.
    """
    from onnx import TensorProto, helper, numpy_helper

    for index, node in enumerate(model.graph.node):
        if (table := _find_embedding(model, node)) is None:
            continue
        name, width = table.name, table.dims[1]
        codes, scales = blocks.round_embedding(numpy_helper.to_array(table), settings.bits, settings.block_size)
        _add_weights(model, {f"{name}.codes": codes, f"{name}.scales": scales.astype(scale_type)})
        parts = [
            helper.make_node(
                "GatherBlockQuantized",
                [f"{name}.codes", node.input[1], f"{name}.scales"],
                [f"{name}.looked_up"],
                name=f"{name}/lookup",
                domain=DOMAIN,
                bits=settings.bits,
                block_size=settings.block_size,
                gather_axis=0,
                quantize_axis=1,
            )
        ]
        rows = f"{name}.looked_up"
        if settings.bits == 4 and width % 2:  # two codes a byte: a row has one more weight than the model knows
            ends = {"starts": [0], "ends": [width], "axes": [-1]}
            _add_weights(model, {f"{name}.{key}": np.array(value) for key, value in ends.items()})
            inputs = [rows, *(f"{name}.{key}" for key in ends)]
            rows = f"{name}.rows"
            parts.append(helper.make_node("Slice", inputs, [rows], name=f"{name}/slice"))
        parts.append(helper.make_node("Cast", [rows], list(node.output), name=f"{name}/cast", to=TensorProto.FLOAT))
        model.graph.node.remove(node)
        for part in reversed(parts):
            model.graph.node.insert(index, part)
        _drop_unused(model, {name})
        _import_domain(model)
        return


def _find_embedding(model: "ModelProto", node: "NodeProto") -> "TensorProto | None":
    """Return the table of token embeddings, if that is what a node looks up in."""
    from onnx import TensorProto

    if node.op_type != "Gather" or not _is_token_ids(model, node.input[1]):
        return None
    for table in model.graph.initializer:
        if table.name == node.input[0]:
            large = math.prod(table.dims) >= EMBEDDING_WEIGHTS
            return table if large and table.data_type == TensorProto.FLOAT else None
    return None


def _is_token_ids(model: "ModelProto", name: str) -> bool:
    """Return whether a tensor holds the graph's token ids: positions, too, are looked up in large tables."""
    sources = {output: node for node in model.graph.node for output in node.output}
    while name in sources and sources[name].op_type in PASSING:
        name = sources[name].input[0]
    return name == "input_ids"


def _round_to_4_bits(model: "ModelProto", settings: OnnxQuantize, tokenizer: BaseTokenizer, scratch: Path) -> None:
    """Round all matrices but `keep_8_bit` to 4 bits by GPTQ, in place; layers may share one."""
    from onnx import numpy_helper

    kept = {node.name for node in _find_matrices(model, settings.keep_8_bit)}
    if settings.keep_8_bit and not kept:
        _warn_of_no_match(model, "keep_8_bit", settings.keep_8_bit, "All get 4 bits. Name those that lose too much.")
    products: dict[str, list[NodeProto]] = {}
    for node in _find_matrices(model, [""]):
        if node.name not in kept:
            products.setdefault(node.input[1], []).append(node)
    tensors = sorted({node.input[0] for nodes in products.values() for node in nodes})
    hessians = calibration.compute_hessians(model, tensors, calibration.load_token_ids(tokenizer), scratch)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    block = settings.weights.block_size
    with bar("convert: GPTQ", len(products)) as progress:
        for name, nodes in products.items():
            matrix = numpy_helper.to_array(weights[name])
            hessian = sum(hessians[node.input[0]] for node in nodes[1:]) + hessians[nodes[0].input[0]]
            codes, scales = blocks.round_matrix(matrix, hessian, block)
            _add_weights(model, {f"{name}.codes": blocks.pack(codes, 4), f"{name}.scales": scales})
            for node in nodes:
                node.CopyFrom(_multiply_by_codes(node, matrix.shape, block))
            progress.update(1)
    _drop_unused(model, set(products))
    _import_domain(model)


def _multiply_by_codes(node: "NodeProto", shape: tuple[int, ...], block: int) -> "NodeProto":
    """Return the product with the 4-bit codes of a node's matrix, whose shape is [in, out]."""
    from onnx import helper

    return helper.make_node(
        "MatMulNBits",
        [node.input[0], f"{node.input[1]}.codes", f"{node.input[1]}.scales"],
        list(node.output),
        name=node.name,
        domain=DOMAIN,
        K=shape[0],
        N=shape[1],
        bits=4,
        block_size=block,
    )


def _set_activations(model: "ModelProto", level: int) -> None:
    """Say of all matrices in blocks what their activations are, in place."""
    from onnx import helper

    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            node.attribute.append(helper.make_attribute("accuracy_level", level))


def _add_weights(model: "ModelProto", weights: dict[str, NDArray[Any]]) -> None:
    from onnx import numpy_helper

    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())


def _drop_unused(model: "ModelProto", names: set[str]) -> None:
    """Remove those of the named weights that no node reads any more."""
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in names - used]:
        model.graph.initializer.remove(tensor)


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
    """Quantise the remaining matrices to nearest; a kernel with 8-bit activations has one scale per block of them."""
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    settings = DefaultWeightOnlyQuantConfig(bits=8, block_size=block_size, is_symmetric=True)
    quantizer = MatMulNBitsQuantizer(model, algo_config=settings)
    quantizer.process()
    quantized: ModelProto = quantizer.model.model
    _drop_repeated(quantized)
    return quantized


def _drop_repeated(model: "ModelProto") -> None:
    """Keep one of the weights that the quantizer adds once for every layer that shares a matrix."""
    kept: set[str] = set()
    for index, tensor in reversed(list(enumerate(model.graph.initializer))):
        if tensor.name in kept:
            del model.graph.initializer[index]
        kept.add(tensor.name)


def _import_domain(model: "ModelProto") -> None:
    """Declare that the model uses onnxruntime's own operators."""
    from onnx import helper

    if not any(imported.domain == DOMAIN for imported in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
