"""Weights to integers: ONNX's grid of blocks, TFLite's grid of rows, and GPTQ, which rounds to either."""
