"""Rounds the weights of a LiteRT graph by a recipe's rules, with ai-edge-quantizer."""

import contextlib
import io
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.config.variant import TfliteRule


def apply_rules(path: Path, rules: list[TfliteRule]) -> None:
    """Round a graph's weights in place; activations follow at run time, one scale per token.

    Args:
        path: an fp32 graph.
        rules: where several match an operation, the last holds.

    Raises:
        InputError: a rule of dequantized_weight_recovery matches weights that are on no grid, or a rule's blocks do not
            divide the weights that it matches.
    """
    from ai_edge_quantizer import qtyping, quantizer

    rounding = quantizer.Quantizer(str(path))
    for rule in rules:
        weights = qtyping.TensorQuantizationConfig(
            num_bits=rule.bits, symmetric=True, granularity=qtyping.QuantGranularity(rule.granularity)
        )
        rounding.update_quantization_recipe(
            regex=rule.regex,
            operation_name=qtyping.TFLOperationName(rule.operation),
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.INTEGER
            ),
            algorithm_key=rule.algorithm,
        )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # one of its progress bars cannot be switched off
            result = rounding.quantize(enable_progress_report=False, enable_progress_bar=False)
    except (RuntimeError, ValueError) as error:
        if "not divisible by block size" in str(error):
            raise InputError(
                f"a rule's granularity does not fit weights that it matches: {error} "
                "Choose smaller blocks, or CHANNELWISE."
            ) from None
        if "Failed to recover" not in str(error):
            raise
        raise InputError(
            "a rule of dequantized_weight_recovery holds for weights that rounding.four_bit does not name. Make both "
            f"name the same layers, as in conf/variant/tflite_mixed.yaml. ai-edge-quantizer: {error}"
        ) from None
    path.write_bytes(result.quantized_model)
    path.chmod(0o644)
