"""Whether and how the base model is fine-tuned: the schema of `finetune` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.common.config.strict import Limit, Strict

# A share of the groups of examples; dev and held_out together leave some for training.
Share = Annotated[float, Field(gt=0, lt=0.5)]


class NoFinetuning(Strict):
    """No fine-tuning: conversions start from the downloaded weights."""

    method: Literal["none"]
    runs: list[str] = Field(max_length=0)
    weights: Literal["models/base"]


class TokenPrice(Strict):
    """What a million tokens cost, of prompts and of completions; in any currency."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


class LlmEndpoint(Strict):
    """An OpenAI-compatible endpoint that writes questions about passages and judges them.

    Attributes:
        url: the API's address, up to and including its version.
        model: the model to ask.
        api_key_env: environment variable that holds the key; None sends no key.
        queries: questions per passage.
        judge_min: lowest mark (1 to 5) of a question that is kept; None keeps all without judging.
        price: of its tokens, to show the cost; None shows tokens alone.
    """

    url: str = Field(pattern=r"^https?://")
    model: str
    api_key_env: str | None
    queries: int = Field(ge=1, le=10)
    judge_min: int | None = Field(ge=1, le=5)
    price: TokenPrice | None = None


class ExampleSource(Strict):
    """Where training examples come from and how they are split.

    Attributes:
        source: botocore's documentation, the user's triplets, or the user's documents.
        path: the triplets' file or folder, or the documents' folder.
        llm: what writes the questions about documents; None derives them from the documents' structure.
        dev: share of groups that choose the best checkpoint.
        held_out: share of groups that prove the gain.
        examples: maximum number of training examples; 0 takes all.
    """

    source: Literal["aws", "triplets", "documents"]
    path: str | None
    llm: LlmEndpoint | None
    dev: Share
    held_out: Share
    examples: int = Field(ge=0)

    @model_validator(mode="after")
    def _require_path(self) -> "ExampleSource":
        if (self.path is None) != (self.source == "aws"):
            raise ValueError(f"source={self.source} takes {'no' if self.source == 'aws' else 'a'} finetune.data.path")
        if self.llm and self.source != "documents":
            raise ValueError("finetune.data.llm asks about documents; set finetune.data.source=documents")
        return self


class PromptNames(Strict):
    """The name of the model's prompt for each column of an example; ignored for a model without prompts."""

    anchor: str | None
    positive: str | None
    negative: str | None


class LoraAdapter(Strict):
    """The adapter's size and place.

    Attributes:
        rank: of its matrices.
        alpha: alpha / rank scales its output.
        dropout: of its input.
        layers: architecture (transformers' model_type) -> the linear layers that get an adapter.
    """

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    layers: dict[str, list[str]]


class FinetuneSettings(Strict):
    """One fine-tuning; conf/finetune/lora.yaml says what each setting does.

    Attributes:
        method: what is trained: an adapter (lora), an adapter over 4-bit weights (qlora), or all weights (full).
        runs: the method; dvc.yaml makes one stage of each.
        weights: the folder that conversions read.
    """

    method: Literal["lora", "qlora", "full"]
    runs: list[str]
    weights: str
    seed: int
    data: ExampleSource
    prompts: PromptNames
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
    def _require_consistency(self) -> "FinetuneSettings":
        folder = f"finetune/{self.method}/model"
        if self.runs != [self.method] or self.weights != folder:
            raise ValueError(f"method={self.method} goes with runs=[{self.method}] and weights={folder}")
        if self.mini_batch_size > self.batch_size:
            raise ValueError(f"mini_batch_size {self.mini_batch_size} is larger than batch_size {self.batch_size}")
        if self.processes and self.batch_size % self.processes:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by processes {self.processes}")
        return self


Finetune = Annotated[NoFinetuning | FinetuneSettings, Field(discriminator="method")]
