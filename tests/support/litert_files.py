"""What a LiteRT file holds, read without running it."""

from pathlib import Path

import numpy as np


def read_four_bit_matrices(path: Path) -> list[np.ndarray]:
    """Return a graph's 4-bit matrices as floats: two codes a byte, the low half first, a scale a row or a block."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    tensors = model.subgraphs[0].tensors
    matrices = []
    for tensor in tensors:
        if tensor.type != schema.TensorType.INT4:
            continue
        packed = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
        codes = (np.stack([packed & 15, packed >> 4], 1).astype(np.int8).reshape(tensor.shape) ^ 8) - 8
        if tensor.quantization.detailsType == schema.QuantizationDetails.BlockwiseQuantization:
            details = tensor.quantization.details
            stored = np.asarray(model.buffers[tensors[details.scales].buffer].data, np.uint8).view(np.float16)
            scales = np.repeat(stored.reshape(len(codes), -1).astype(np.float32), details.blockSize, axis=1)
        else:
            scales = np.asarray(tensor.quantization.scale, np.float32)[:, None]
        matrices.append(codes * scales)
    return matrices
