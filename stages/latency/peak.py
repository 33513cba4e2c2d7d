"""The physical limit: how many operations a second matrix products reach here, with the threads and quota of a variant.

A multiply and an add are two operations. Measured in a process of its own, by `python -P peak.py THREADS`:
    fp32   the better of torch.mm (MKL or oneDNN) and ONNX Runtime's MatMul, which is the faster one on some CPUs
    bf16   torch.mm
    int8   ONNX Runtime's MatMulInteger, 8-bit activations and weights
The largest of several windows counts: a limit is what is possible, not what a disturbed moment gave. Products of
1024 x 2048 by 2048 x 2048 fill the cores' caches as large layers do; smaller ones are slower.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROWS, WIDTH = 1024, 2048
OPERATIONS = 2 * ROWS * WIDTH * WIDTH
# Windows of three periods of a CPU quota (100 ms): shorter ones could fall between two stands.
WINDOW_S, WINDOWS = 0.3, 5
TIMEOUT_S = 120.0


def measured(threads: int, environment: dict[str, str], prefix: Sequence[str] = ()) -> dict[str, float]:
    """Return billions of operations a second by number format; empty where they cannot be measured.

    Args:
        threads: CPU threads.
        environment: of the process, with its thread pools pinned.
        prefix: words before the command, such as those that put it under a quota.
    """
    command = [*prefix, sys.executable, "-P", str(Path(__file__)), str(threads)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {}  # beside the point of the run; the report then shows no share
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _rate(product: Callable[[], object]) -> float:
    product()
    best = 0.0
    for _ in range(WINDOWS):
        count, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < WINDOW_S or not count:
            product()
            count += 1
        best = max(best, count * OPERATIONS / passed)
    return round(best / 1e9, 1)


def _main(threads: int) -> dict[str, float]:
    import numpy as np
    import onnxruntime
    import torch
    from onnx import TensorProto, helper, numpy_helper

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    left, right = (
        torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in ((ROWS, WIDTH), (WIDTH, WIDTH))
    )
    half_left, half_right = left.bfloat16(), right.bfloat16()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads

    def product(operator: str, rows: Any, weights: Any, result: int) -> Callable[[], object]:  # noqa: ANN401
        """Return what multiplies rows by constant weights in ONNX Runtime."""
        taken = helper.np_dtype_to_tensor_dtype(rows.dtype)
        graph = helper.make_graph(
            [helper.make_node(operator, ["rows", "weights"], ["product"])],
            "product",
            [helper.make_tensor_value_info("rows", taken, [ROWS, WIDTH])],
            [helper.make_tensor_value_info("product", result, [ROWS, WIDTH])],
            [numpy_helper.from_array(weights, "weights")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"rows": rows})

    whole = product("MatMul", left.numpy(), right.numpy(), TensorProto.FLOAT)
    eights = rng.integers(0, 255, (ROWS, WIDTH), np.uint8), rng.integers(-127, 127, (WIDTH, WIDTH), np.int8)
    return {
        "fp32": max(_rate(lambda: torch.mm(left, right)), _rate(whole)),
        "bf16": _rate(lambda: torch.mm(half_left, half_right)),
        "int8": _rate(product("MatMulInteger", *eights, TensorProto.INT32)),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_main(int(sys.argv[1]))))
