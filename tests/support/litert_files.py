"""What a LiteRT file holds, read without running it."""

from pathlib import Path

import numpy as np


def read_four_bit_matrices(path: Path) -> list[np.ndarray]:
    """Return a graph's 4-bit matrices as floats: two codes per byte, the low half first, one scale per row."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    matrices = []
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT4:
            packed = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
            codes = (np.stack([packed & 15, packed >> 4], 1).astype(np.int8).reshape(tensor.shape) ^ 8) - 8
            matrices.append(codes * np.asarray(tensor.quantization.scale, np.float32)[:, None])
    return matrices
