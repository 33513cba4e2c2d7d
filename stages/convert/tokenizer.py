"""The tokenizer that sentence-transformers runs for a model, and what else it does to a text before the transformer.

sentence-transformers changes a tokenizer as it loads: lower case, special tokens, the token limit. So a variant ships
the loaded tokenizer, written anew, not the model's file.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embed_foundry import manifest
from embed_foundry.errors import InputError

from stages.common.sources import probe_texts
from stages.common.sources.intake import read_object
from stages.convert.conversion import MODEL_LIBRARIES
from stages.convert.intermediate import load_or_make

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

TOKENIZER, SETTINGS = "tokenizer.json", "settings.json"


class SpecialIds(NamedTuple):
    """The token ids that a tokenizer puts before and after every text."""

    before: list[int]
    after: list[int]

    def wrap(self, ids: list[int]) -> list[int]:
        """Return a text's own ids with the special ones around them."""
        return [*self.before, *ids, *self.after]


@dataclass(frozen=True)
class TextSettings:
    """What sentence-transformers does to a text of one model.

    Attributes:
        prompts: the model's own prompts that are not empty, by name.
        truncation_side: which end a text over the limit loses: "right" or "left".
        pad_id: token id that fills shorter rows.
        vocabulary: rows of the token table.
        pools_prompt: whether pooling includes a prompt's tokens.
        max_tokens: where sentence-transformers truncates a text; None if nowhere.
    """

    prompts: dict[str, str]
    truncation_side: str
    pad_id: int
    vocabulary: int
    pools_prompt: bool
    max_tokens: int | None


@dataclass(frozen=True)
class BaseTokenizer:
    """The base model's tokenizer.

    Attributes:
        path: its tokenizer.json as sentence-transformers runs it, without white space (EmbeddingGemma: 14 MB, not 33).
        settings: what happens beside it.
    """

    path: Path
    settings: TextSettings

    def open(self) -> "Tokenizer":
        """Return the tokenizer; it neither pads nor truncates."""
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.path))

    def copy(self, work: Path) -> dict[str, str]:
        """Copy its file into a variant's folder and return role to file name."""
        shutil.copyfile(self.path, work / TOKENIZER)
        return {"tokenizer": TOKENIZER}

    def read_special_ids(self) -> SpecialIds:
        """Return the ids that it puts around every text."""
        encoding = self.open().encode(probe_texts.SHORT)
        special = encoding.special_tokens_mask
        before = special.index(0)
        after = special[::-1].index(0)
        return SpecialIds(before=encoding.ids[:before], after=encoding.ids[len(special) - after :])

    def count_prompt(self, prompt: str) -> int:
        """Return how many tokens of a prompted text pooling may leave out, as the runtime counts them."""
        if not prompt:
            return 0
        encoding = self.open().encode(prompt)
        return len(encoding.ids) - int(encoding.special_tokens_mask[-1])

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Return token ids of texts, special ones included, truncated to `max_tokens`."""
        tokenizer = self.open()
        tokenizer.enable_truncation(max_tokens, direction=self.settings.truncation_side)
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


def load_tokenizer(base: Path, cache: Path) -> BaseTokenizer:
    """Return the tokenizer of a SentenceTransformer folder; the model is loaded for it once.

    Args:
        base: the verified folder.
        cache: keeps the result for the next conversion.

    Raises:
        InputError: the model's tokenizer is not one of Hugging Face tokenizers (a "fast" one).
    """
    folder = load_or_make(
        cache,
        "tokenizer",
        {"base": manifest.read(base).digest},
        code=[Path(__file__)],
        libraries=("tokenizers", *MODEL_LIBRARIES),
        make=lambda work: _write(base, work),
    )
    settings: dict[str, object] = read_object(folder / SETTINGS)
    return BaseTokenizer(folder / TOKENIZER, TextSettings(**settings))  # type: ignore[arg-type]


def _write(base: Path, work: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

    model = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"{base}: {type(model.tokenizer).__name__} has no tokenizer.json. Expected a fast tokenizer: make one by "
            "transformers' convert_slow_tokenizer, and add the file to the model."
        )
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(work / TOKENIZER), pretty=False)
    (work / SETTINGS).write_text(json.dumps(asdict(_describe(model))), encoding="utf-8")


def _describe(model: "SentenceTransformer") -> TextSettings:
    from sentence_transformers.sentence_transformer.modules import Pooling

    return TextSettings(
        prompts={name: prompt for name, prompt in sorted(model.prompts.items()) if prompt},
        truncation_side=str(model.tokenizer.truncation_side),
        pad_id=int(model.tokenizer.pad_token_id or 0),
        vocabulary=int(model[0].auto_model.get_input_embeddings().weight.shape[0]),
        pools_prompt=all(module.include_prompt for module in model if isinstance(module, Pooling)),
        max_tokens=model.max_seq_length,
    )
