"""The variants' recipes, one schema per kind. Comments in conf/variant say what each setting does."""

import re
import sys
import unicodedata
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stages.common.config.strict import Limit, Strict


def _require_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None
    return pattern


@cache
def _scripts() -> set[str]:
    """Return the first word of every letter's Unicode name, which is what vocabulary.scripts selects by."""
    letters = filter(str.isalpha, map(chr, range(sys.maxunicode + 1)))
    return {unicodedata.name(letter, "").partition(" ")[0] for letter in letters} - {""}


# What writes an ONNX graph: torch.export, or optimum-onnx in an environment of its own.
Exporter = Literal["torch", "optimum"]
Regex = Annotated[str, AfterValidator(_require_regex)]


class TorchRecipe(Strict):
    """A reference precision in PyTorch."""

    kind: Literal["torch"]
    precision: Literal["fp32", "bf16", "fp16", "int8"]


class Blocks(Strict):
    """Weights as integers with one scale for each block of a row."""

    bits: Literal[4, 8]
    block_size: Literal[16, 32, 64, 128, 256]


class OnnxQuantize(Strict):
    """Which parts of an ONNX graph become integers: the embedding, matrices with dynamic activations, all others.

    Attributes:
        activations: what all matrices but the dynamic ones are multiplied with.
    """

    embedding: Blocks
    weights: Blocks
    activations: Literal["int8", "fp32"]
    dynamic: list[Regex]
    keep_8_bit: list[Regex]
    reduce_range: bool


class OnnxRecipe(Strict):
    """An ONNX graph for ONNX Runtime, its weights in 8 or 4 bits where `quantize` is set."""

    kind: Literal["onnx"]
    precision: Literal["fp32", "int8", "q8", "q4"]
    opset: int = Field(ge=17)
    exporter: Exporter
    quantize: OnnxQuantize | None

    @model_validator(mode="after")
    def _require_quantize(self) -> "OnnxRecipe":
        if (self.precision == "fp32") != (self.quantize is None):
            raise ValueError("quantize settings belong to every precision but fp32")
        return self


class OpenvinoCompress(Strict):
    """Which parts of an OpenVINO graph become integers; activations follow at run time, `activation_group` a scale."""

    weights: Literal["int8_asym", "int8_sym"]
    embedding_bits: Literal[4, 8]
    activation_group: int = Field(ge=0)


class OpenvinoRecipe(Strict):
    """An OpenVINO graph, its weights in 8 bits where `compress` is set."""

    kind: Literal["openvino"]
    precision: Literal["fp32", "int8"]
    opset: int = Field(ge=17)
    exporter: Exporter
    inference_precision: Literal["f32", "bf16"]
    compress: OpenvinoCompress | None

    @model_validator(mode="after")
    def _require_compress(self) -> "OpenvinoRecipe":
        if (self.precision == "fp32") != (self.compress is None):
            raise ValueError("compress settings belong to every precision but fp32")
        return self


class StaticFit(Strict):
    """The texts whose vectors by the model a token table is fitted to, and how far its rows may move for them."""

    file: str | None
    texts: int = Field(ge=100)
    prompt: str | None
    ridge: Annotated[float, Field(gt=0)]


class StaticVocabulary(Strict):
    """How many tokens a table has rows for, and in which scripts; None is all."""

    tokens: Annotated[int, Field(gt=0)] | None
    scripts: list[str] | None

    @model_validator(mode="after")
    def _require_known_scripts(self) -> "StaticVocabulary":
        unknown = sorted({script.upper() for script in self.scripts or ()} - (_scripts() if self.scripts else set()))
        if unknown:
            raise ValueError(
                f"vocabulary.scripts {unknown}: Unicode names no letter so. Did you mean "
                f"{get_close_matches(unknown[0], _scripts(), 3, 0.5) or ['LATIN', 'CYRILLIC', 'CJK']}?"
            )
        return self


class StaticRecipe(Strict):
    """A Model2Vec token table."""

    kind: Literal["static"]
    precision: Literal["fp32", "int8"]
    dimensions: int = Field(gt=0)
    sif_coefficient: Limit
    vocabulary: StaticVocabulary
    fit: StaticFit | None = None


class Granular(Strict):
    """What shares a scale: a row of a matrix, or a block of a row."""

    granularity: Literal["CHANNELWISE", "BLOCKWISE_32", "BLOCKWISE_64", "BLOCKWISE_128", "BLOCKWISE_256"]

    @property
    def block(self) -> int | None:
        """How many weights of a row share a scale; None: all."""
        return None if self.granularity == "CHANNELWISE" else int(self.granularity.removeprefix("BLOCKWISE_"))


class TfliteRule(Granular):
    """Which operations of a LiteRT graph get integer weights, and how; where several rules match, the last holds."""

    regex: Regex
    operation: Literal["*", "EMBEDDING_LOOKUP", "FULLY_CONNECTED", "BATCH_MATMUL"]
    algorithm: Literal["min_max_uniform_quantize", "OCTAV", "MSE", "dequantized_weight_recovery", "no_quantize"]
    bits: Literal[4, 8]


class FourBitLayers(Granular):
    """Linear layers that get 4 bits, by their names such as "12.mlp.down_proj"."""

    regex: Regex


class TfliteRounding(Strict):
    """The linear layers that GPTQ rounds to 4 bits before export; the transformer's others are rounded to 8 bits.

    Where several entries match a layer, the last holds. Models of another architecture (transformers' model_type) are
    not rounded before export.
    """

    architecture: Literal["gemma3_text"]
    four_bit: list[FourBitLayers] = Field(min_length=1)


class TfliteRecipe(Strict):
    """LiteRT (TFLite) graphs, one for each input length."""

    kind: Literal["tflite"]
    precision: Literal["fp32", "int8", "mixed"]
    lengths: list[Annotated[int, Field(ge=16)]] = Field(min_length=1)
    rules: list[TfliteRule]
    rounding: TfliteRounding | None = None

    @model_validator(mode="after")
    def _require_consistency(self) -> "TfliteRecipe":
        recovered = any(rule.algorithm == "dequantized_weight_recovery" for rule in self.rules)
        if recovered != (self.rounding is not None):
            raise ValueError("rounding and rules of dequantized_weight_recovery need each other")
        if (self.precision == "fp32") != (not self.rules):
            raise ValueError("rules belong to every precision but fp32")
        if len(set(self.lengths)) != len(self.lengths):
            raise ValueError(f"lengths {self.lengths} name one twice")
        return self


class LitertlmRecipe(TfliteRecipe):
    """One file for LiteRT-LM's EmbeddingEngine, with a signature for each input length."""

    kind: Literal["litertlm"]  # type: ignore[assignment]


Recipe = Annotated[
    TorchRecipe | OnnxRecipe | OpenvinoRecipe | StaticRecipe | TfliteRecipe | LitertlmRecipe,
    Field(discriminator="kind"),
]
