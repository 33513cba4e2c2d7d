"""The physical limit: how many operations a second matrix products reach here, with the threads and quota of a variant.

A multiply and an add are two operations. Measured in a process of its own, `python -P matrix_throughput.py THREADS`:
    fp32   the better of torch.mm (MKL or oneDNN) and ONNX Runtime's MatMul, which is faster on some CPUs
    bf16   torch.mm
    int8   ONNX Runtime's MatMulInteger, 8-bit activations and weights
The best of several windows counts: a limit is what is possible, not what a disturbed moment gave. Products of
1024 x 2048 by 2048 x 2048 fill the cores' caches as large layers do; smaller ones are slower.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

ROWS, WIDTH = 1024, 2048
OPERATIONS = 2 * ROWS * WIDTH * WIDTH
# Windows of three periods of a CPU quota (100 ms): a shorter one could miss the part of a period that stands still.
WINDOW_S, WINDOWS = 0.3, 5
TIMEOUT_S = 120.0

Product = Callable[[], object]


def measure_matrix_throughput(
    threads: int, environment: dict[str, str], command_prefix: Sequence[str] = ()
) -> dict[str, float]:
    """Return 10^9 operations a second by number format: fp32, bf16, int8; empty where they cannot be measured.

    Args:
        threads: CPU threads.
        environment: the process's environment variables, which pin its thread pools.
        command_prefix: arguments before the command, such as those that put it under a quota.
    """
    command = [*command_prefix, sys.executable, "-P", str(Path(__file__)), str(threads)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {}  # no reason to fail the stage: the report then shows no share of the limit
    gops: dict[str, float] = json.loads(done.stdout)
    return gops


def _measure_gops(multiply: Product) -> float:
    """Return 10^9 operations a second of the best window."""
    multiply()
    best = 0.0
    for _ in range(WINDOWS):
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < WINDOW_S or not count:
            multiply()
            count += 1
        best = max(best, count * OPERATIONS / elapsed)
    return round(best / 1e9, 1)


def _build_onnx_product(
    operator: str, rows: "npt.NDArray[Any]", weights: "npt.NDArray[Any]", result_type: int, threads: int
) -> Product:
    """Return a function that multiplies rows [ROWS, WIDTH] by constant weights [WIDTH, WIDTH] in ONNX Runtime.

    Args:
        operator: the ONNX operator of the product.
        rows: the left matrix.
        weights: the right matrix.
        result_type: onnx.TensorProto's type of the product's elements.
        threads: CPU threads.
    """
    import onnxruntime
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node(operator, ["rows", "weights"], ["product"])],
        "product",
        [helper.make_tensor_value_info("rows", helper.np_dtype_to_tensor_dtype(rows.dtype), [ROWS, WIDTH])],
        [helper.make_tensor_value_info("product", result_type, [ROWS, WIDTH])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"rows": rows})


def _measure_formats(threads: int) -> dict[str, float]:
    """Return 10^9 operations a second by number format, measured in this process."""
    import numpy as np
    import torch
    from onnx import TensorProto

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    left, right = (
        torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in ((ROWS, WIDTH), (WIDTH, WIDTH))
    )
    bf16_left, bf16_right = left.bfloat16(), right.bfloat16()
    fp32_onnx = _build_onnx_product("MatMul", left.numpy(), right.numpy(), TensorProto.FLOAT, threads)
    int8_left, int8_right = (
        rng.integers(0, 255, (ROWS, WIDTH), np.uint8),
        rng.integers(-127, 127, (WIDTH, WIDTH), np.int8),
    )
    int8_onnx = _build_onnx_product("MatMulInteger", int8_left, int8_right, TensorProto.INT32, threads)
    return {
        "fp32": max(_measure_gops(lambda: torch.mm(left, right)), _measure_gops(fp32_onnx)),
        "bf16": _measure_gops(lambda: torch.mm(bf16_left, bf16_right)),
        "int8": _measure_gops(int8_onnx),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure_formats(int(sys.argv[1]))))
