"""How a model is fine-tuned, or that it is not: the schema of `finetune` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.common.config.strict import Limit, Strict

# Share of what there is.
Share = Annotated[float, Field(gt=0, lt=0.5)]


class NoFinetuning(Strict):
    """No fine-tuning: conversions start from the downloaded weights."""

    method: Literal["none"]
    runs: list[str] = Field(max_length=0)
    weights: Literal["models/base"]


class LlmEndpoint(Strict):
    """An OpenAI-compatible endpoint that asks questions about passages, and judges them."""

    url: str = Field(pattern=r"^https?://")
    model: str
    api_key_env: str | None
    queries: int = Field(ge=1, le=10)
    judge_min: int | None = Field(ge=1, le=5)


class ExampleSource(Strict):
    """Where triplets come from, and what of it is kept for choosing (dev) and for proving (held out)."""

    source: Literal["aws", "triplets", "documents"]
    path: str | None
    llm: LlmEndpoint | None
    dev: Share
    held_out: Share
    examples: int = Field(ge=0)

    @model_validator(mode="after")
    def _complete(self) -> "ExampleSource":
        if (self.path is None) != (self.source == "aws"):
            raise ValueError(f"source={self.source} takes {'no' if self.source == 'aws' else 'a'} finetune.data.path")
        if self.llm and self.source != "documents":
            raise ValueError("finetune.data.llm asks about documents; set finetune.data.source=documents")
        return self


class Prompts(Strict):
    """Name of the model's prompt that goes before each column's texts; models without prompts have none anyway."""

    anchor: str | None
    positive: str | None
    negative: str | None


class LoraAdapter(Strict):
    """The adapter's size, and by architecture (transformers' model_type) the linear layers that get one."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    layers: dict[str, list[str]]


class Training(Strict):
    """One fine-tuning: an adapter (lora), one over 4-bit weights (qlora), or all weights (full)."""

    method: Literal["lora", "qlora", "full"]
    runs: list[str]
    weights: str
    seed: int
    data: ExampleSource
    prompts: Prompts
    hard_negatives: int = Field(ge=0)
    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=2)
    mini_batch_size: int = Field(ge=1)
    processes: int | None = Field(ge=1)
    max_tokens: int = Field(gt=0)
    learning_rate: Annotated[Limit, Field(gt=0)]
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    precision: Literal["auto", "fp32", "bf16"]
    gradient_checkpointing: bool
    heads: bool
    lora: LoraAdapter
    eval_steps: int = Field(ge=1)
    patience: int = Field(ge=1)
    threshold: float = Field(ge=0)
    forgetting_max: Limit

    @model_validator(mode="after")
    def _places(self) -> "Training":
        folder = f"finetune/{self.method}/model"
        if self.runs != [self.method] or self.weights != folder:
            raise ValueError(f"method={self.method} goes with runs=[{self.method}] and weights={folder}")
        if self.mini_batch_size > self.batch_size:
            raise ValueError(f"mini_batch_size {self.mini_batch_size} is larger than batch_size {self.batch_size}")
        if self.processes and self.batch_size % self.processes:
            raise ValueError(f"batch_size {self.batch_size} has no equal parts for processes {self.processes}")
        return self


Finetune = Annotated[NoFinetuning | Training, Field(discriminator="method")]
