"""Which module converts each kind of variant, and which libraries shape the bytes that it writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from stages.convert.conversion import Converter


@dataclass(frozen=True)
class ConverterSpec:
    """How one kind of variant is converted.

    Attributes:
        module: the absolute name of a `Converter`. It is imported when used: most import torch.
        libraries: distributions whose versions shape the variant's bytes.
    """

    module: str
    libraries: tuple[str, ...]

    def load(self) -> Converter:
        """Import the module."""
        converter: Converter = import_module(self.module)
        return converter


# What loads the base model, and what exports it to ONNX.
MODEL_LIBRARIES = ("sentence-transformers", "torch", "transformers")
GRAPH_LIBRARIES = ("onnx", "onnxscript", "optimum", "optimum-onnx", *MODEL_LIBRARIES)

# Kind of variant -> its converter.
CONVERTERS: Mapping[str, ConverterSpec] = {
    "torch": ConverterSpec("stages.convert.torch", ("safetensors", *MODEL_LIBRARIES)),
    "onnx": ConverterSpec("stages.convert.onnx", ("onnxruntime", *GRAPH_LIBRARIES)),
    "openvino": ConverterSpec("stages.convert.openvino", ("nncf", "openvino", *GRAPH_LIBRARIES)),
    "static": ConverterSpec(
        "stages.convert.static", ("model2vec", "onnxruntime", "scikit-learn", "tokenizers", *GRAPH_LIBRARIES)
    ),
    "tflite": ConverterSpec(
        "stages.convert.tflite",
        (
            "ai-edge-litert",
            "ai-edge-quantizer",
            "litert-converter",
            "litert-torch",
            "sentencepiece",
            *MODEL_LIBRARIES,
        ),
    ),
}
