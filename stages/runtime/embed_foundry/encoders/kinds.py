"""The kinds of variants: which encoder runs each, what it needs, what can change its vectors. One entry per kind."""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of variant.

    Attributes:
        name: as in variant.json.
        encoder: module:class of the encoder.
        module: the library that the encoder imports.
        packages: what `pip install` gets it by.
        extra: this package's extra that does the same; "" if none is needed.
        distributions: installed distributions whose versions can change a vector.
        multiplies: whether the encoder computes the model's matrix products; a static table only looks vectors up.
        has_providers: whether it runs on other execution providers than the CPU.
    """

    name: str
    encoder: str
    module: str
    packages: tuple[str, ...]
    extra: str
    distributions: tuple[str, ...]
    multiplies: bool = True
    has_providers: bool = False

    @property
    def install(self) -> str:
        """The command that installs the kind's library."""
        return f"pip install {shlex.join(self.packages)}"


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="onnx",
            encoder="embed_foundry.encoders.onnx:OnnxEncoder",
            module="onnxruntime",
            packages=("onnxruntime",),
            extra="",
            distributions=("onnxruntime", "tokenizers"),
            has_providers=True,
        ),
        Kind(
            name="openvino",
            encoder="embed_foundry.encoders.openvino:OpenvinoEncoder",
            module="openvino",
            packages=("openvino>=2026.0",),
            extra="openvino",
            distributions=("openvino", "tokenizers"),
        ),
        Kind(
            name="static",
            encoder="embed_foundry.encoders.static:StaticEncoder",
            module="safetensors",
            packages=("safetensors",),
            extra="",
            distributions=("tokenizers",),
            multiplies=False,
        ),
        Kind(
            name="tflite",
            encoder="embed_foundry.encoders.tflite:TfliteEncoder",
            module="ai_edge_litert",
            packages=("ai-edge-litert>=2.1", "sentencepiece>=0.2"),
            extra="tflite",
            distributions=("ai-edge-litert", "sentencepiece", "tokenizers"),
        ),
        Kind(
            name="litertlm",
            encoder="embed_foundry.encoders.litertlm:LitertlmEncoder",
            module="litert_lm",
            packages=("litert-lm-api>=0.18", "ai-edge-litert>=2.1", "sentencepiece>=0.2"),
            extra="litertlm",
            distributions=("litert-lm-api", "sentencepiece", "tokenizers"),
        ),
        Kind(
            name="torch",
            encoder="embed_foundry.encoders.torch:TorchEncoder",
            module="sentence_transformers",
            packages=("sentence-transformers", "torch"),
            extra="",
            distributions=("sentence-transformers", "tokenizers", "torch", "transformers"),
            has_providers=True,
        ),
    )
}
# Every distribution that can change a vector of some kind.
DISTRIBUTIONS = frozenset(name for kind in KINDS.values() for name in kind.distributions)
# Width of the weights in bits, by a variant's precision.
WEIGHT_BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "q8": 8, "q4": 4, "mixed": 4}
