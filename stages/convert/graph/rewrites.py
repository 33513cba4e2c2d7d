"""Changes to an exported graph that leave its results, so that recipes reach all of its matrices."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def split_linear_layers(model: "ModelProto") -> None:
    """Replace each Gemm of a weight matrix by MatMul and Add, in place: recipes and quantizers know those.

    torch.onnx writes a linear layer as Gemm if its input has two axes, as those of heads after pooling.
    """
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "Gemm" or node.input[1] not in weights or not _is_plain(node):
            continue
        weight, bias = weights[node.input[1]], node.input[2:]
        matrix = numpy_helper.to_array(weight).T
        weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(matrix), weight.name))
        product = f"{node.output[0]}.product" if bias else node.output[0]
        parts = [helper.make_node("MatMul", node.input[:2], [product])]
        parts[0].metadata_props.extend(node.metadata_props)
        if bias:
            parts.append(helper.make_node("Add", [product, *bias], node.output[:1]))
        del model.graph.node[index]
        for offset, part in enumerate(parts):
            model.graph.node.insert(index + offset, part)


def _is_plain(node: "NodeProto") -> bool:
    """Return whether a Gemm computes x @ weight.T + bias."""
    from onnx import helper

    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    expected = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    return {"transB": 0, **expected, **settings} == expected and settings.get("transB") == 1
