"""The schema of params.yaml: one module per group of conf/; `measurement` has the values of conf/config.yaml itself.

Frozen pydantic models without silent conversions. An invalid value ends in exit 2 before anything runs.
"""

from stages.common.config.engine import Engine
from stages.common.config.finetune import (
    ExampleSource,
    Finetune,
    FinetuneSettings,
    LlmEndpoint,
    LoraAdapter,
    NoFinetuning,
    PromptNames,
)
from stages.common.config.measurement import Gate, Latency, Quality
from stages.common.config.model import MODEL_FORMATS, License, Model
from stages.common.config.params import PARAMS, Params, load, parse
from stages.common.config.suite import AirgappedSuite, BuiltinSuite, HubSuite, Suite
from stages.common.config.target import Host, Limits, Resources, Target

__all__ = [
    "MODEL_FORMATS",
    "PARAMS",
    "AirgappedSuite",
    "BuiltinSuite",
    "Engine",
    "ExampleSource",
    "Finetune",
    "FinetuneSettings",
    "Gate",
    "Host",
    "HubSuite",
    "Latency",
    "License",
    "Limits",
    "LlmEndpoint",
    "LoraAdapter",
    "Model",
    "NoFinetuning",
    "Params",
    "PromptNames",
    "Quality",
    "Resources",
    "Suite",
    "Target",
    "load",
    "parse",
]
