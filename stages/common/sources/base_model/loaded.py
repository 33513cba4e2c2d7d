"""What a base model is once sentence-transformers has loaded it, in one record and in a few plain lines."""

from typing import Literal

from pydantic import JsonValue

from stages.common.config import Model
from stages.common.records.base import Record

# How a line names each source.
SOURCES = {
    "table": "its table of positions",
    "configuration": "max_position_embeddings",
    "none": "relative positions",
}
# Names of tokens or weights that a line shows before it only counts them.
SHOWN = 3


class TokenLimit(Record):
    """The most tokens that a transformer has positions for.

    Attributes:
        tokens: how many, special tokens included; None if there is no limit (relative positions).
        source: table, a table of learned positions; configuration, `max_position_embeddings` of a transformer without
            one (rotary positions): the range it was made for; none.
    """

    tokens: int | None
    source: Literal["table", "configuration", "none"]

    def describe(self) -> str:
        """Return the limit and where it comes from, in a few words."""
        limit = f"at most {self.tokens}" if self.tokens else "any length"
        return f"{limit} ({SOURCES[self.source]})"


class PoolingSettings(Record):
    """How token vectors become one vector.

    Attributes:
        modes: cls, mean, max, lasttoken, …; the vectors of several are joined in this order.
        include_prompt: whether the prompt's tokens are pooled, too.
    """

    modes: tuple[str, ...]
    include_prompt: bool


class Head(Record):
    """A Dense module after pooling.

    Attributes:
        inputs, outputs: lengths of its vectors.
        activation: name of its class in torch.nn.
        bias: whether it adds one.
        residual: whether its input is added to its output.
    """

    inputs: int
    outputs: int
    activation: str
    bias: bool
    residual: bool


class Vocabulary(Record):
    """The tokenizer beside the table of token vectors.

    Attributes:
        tokenizer: its class in transformers.
        tokens: how many it has, added ones included.
        rows: of the table.
        without_row: added tokens past the last row; a text that holds one has no vector.
        special: tokens that are added to every text.
    """

    tokenizer: str
    tokens: int
    rows: int
    without_row: tuple[str, ...]
    special: int


class Weights(Record):
    """What the files hold beside what the modules have.

    Attributes:
        parameters: how many numbers the loaded model has.
        dtype: torch's name of their type, as sentence-transformers loads them.
        random: the transformer's weights that no file holds, and that no vector depends on; they are random.
        unread: tensors of the files that the transformer has no place for.
    """

    parameters: int
    dtype: str
    random: tuple[str, ...]
    unread: tuple[str, ...]


class LoadedModel(Record):
    """A base model as sentence-transformers runs it.

    Attributes:
        architecture: transformers' model_type.
        transformer: transformers' class.
        modules: sentence-transformers' classes, in order.
        pooling: None if the transformer gives one vector a text itself.
        heads: its Dense modules.
        dimensions: length of a vector.
        unit_norm: whether vectors have length one without our doing.
        similarity: the function that the model is to be compared by: cosine, dot, euclidean or manhattan.
        prompts: prompt name -> text; those without text are left out.
        default_prompt: the prompt that sentence-transformers adds where none is named.
        truncate_dim: the length that sentence-transformers truncates vectors to.
        limit: the most tokens that it has positions for.
        max_seq_length: where sentence-transformers truncates a text; None if nowhere.
        truncation_side, padding_side: right or left.
        lower_case: whether sentence-transformers lower-cases texts (do_lower_case); a tokenizer may do so by itself.
        modalities: text, image, message, …; joined by "+" where a model takes two at once.
        chat_template: whether the tokenizer has one; texts go through it only with the modality "message".
        vocabulary: tokens and rows.
        weights: parameters, and what differs from the files.
        code: classes that the configuration names as code of its own, for which transformers' own are taken.
        settings: what else the transformer's sentence-transformers configuration sets.
    """

    architecture: str
    transformer: str
    modules: tuple[str, ...]
    pooling: PoolingSettings | None
    heads: tuple[Head, ...]
    dimensions: int
    unit_norm: bool
    similarity: str
    prompts: dict[str, str]
    default_prompt: str | None
    truncate_dim: int | None
    limit: TokenLimit
    max_seq_length: int | None
    truncation_side: str
    padding_side: str
    lower_case: bool
    modalities: tuple[str, ...]
    chat_template: bool
    vocabulary: Vocabulary
    weights: Weights
    code: tuple[str, ...]
    settings: dict[str, JsonValue]

    def describe(self, model: Model) -> list[str]:
        """Return what the model is, in a few lines for a log.

        Args:
            model: its configuration, whose token limit and prompts are shown beside its own.
        """
        entries = {
            "architecture": f"{self.architecture} ({self.transformer}), {self.weights.parameters:,} parameters, "
            f"{self.weights.dtype}",
            "modules": " > ".join(self._describe_modules()),
            "vectors": f"{self.dimensions} dimensions, {'unit norm' if self.unit_norm else 'any norm'}, compared by "
            f"{self.similarity}",
            "tokens": f"{self.limit.describe()}; sentence-transformers truncates at "
            f"{self.max_seq_length or 'no length'}, this build at {model.max_tokens}, on the {self.truncation_side}",
            "vocabulary": self._describe_vocabulary(),
            "prompts": self._describe_prompts(model.prompts),
            "weights": self._describe_weights(),
            "code": f"not run: {', '.join(self.code)}; transformers has these classes itself" if self.code else "",
            "settings": ", ".join(self._list_settings()),
        }
        width = max(map(len, entries)) + 2
        lines = [f"  {name:<{width}}{text}" for name, text in entries.items() if text]
        return [f"{model.repo}, as sentence-transformers loads it:", *lines]

    def _describe_modules(self) -> list[str]:
        heads = iter(self.heads)
        texts = []
        for name in self.modules:
            if name == "Pooling" and self.pooling:
                modes = " + ".join(self.pooling.modes)
                name += f" ({modes}{'' if self.pooling.include_prompt else ', without the prompt'})"
            if name == "Dense":
                head = next(heads)
                name += f" ({head.inputs} to {head.outputs}, {head.activation})"
            texts.append(name)
        return texts

    def _describe_vocabulary(self) -> str:
        text = f"{self.vocabulary.tokens:,} tokens, {self.vocabulary.rows:,} embedding rows"
        if absent := self.vocabulary.without_row:
            text += f"; no row for {shorten(absent)}, so no text may hold {'it' if len(absent) == 1 else 'one'}"
        return text

    def _describe_prompts(self, configured: dict[str, str]) -> str:
        text = ", ".join(configured) or "none"
        if other := [name for name, prompt in configured.items() if self.prompts.get(name, prompt) != prompt]:
            text += f"; another text than the model's own for {', '.join(other)}"
        if unused := [name for name, prompt in self.prompts.items() if prompt not in configured.values()]:
            text += f"; not used of the model's own: {', '.join(unused)}"
        return text

    def _describe_weights(self) -> str:
        texts = []
        if self.weights.random:
            texts.append(f"the files lack {shorten(self.weights.random)}, which no vector depends on")
        if self.weights.unread:
            texts.append(f"not read from the files: {shorten(self.weights.unread)}")
        return "; ".join(texts)

    def _list_settings(self) -> list[str]:
        facts = {
            "texts in lower case": self.lower_case,
            "padding on the left": self.padding_side == "left",
            f"modalities {', '.join(self.modalities)}": self.modalities != ("text",),
            "a chat template, which plain texts do not go through": self.chat_template,
        }
        return [text for text, holds in facts.items() if holds] + [f"{k}={v}" for k, v in self.settings.items()]


def shorten(names: tuple[str, ...]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
