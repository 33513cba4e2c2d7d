"""The base model's tokenizer: its file without white space for a variant, token ids of texts, special ids, prompts."""

from pathlib import Path
from typing import NamedTuple

from stages.common.sources import probe_texts
from stages.common.sources.intake import read_object

TOKENIZER = "tokenizer.json"


class SpecialIds(NamedTuple):
    """The token ids that a tokenizer puts before and after every text."""

    before: list[int]
    after: list[int]

    def wrap(self, ids: list[int]) -> list[int]:
        """Return a text's own ids with the special ones around them."""
        return [*self.before, *ids, *self.after]


def copy_tokenizer(base: Path, work: Path) -> dict[str, str]:
    """Write the base model's tokenizer compactly (EmbeddingGemma: 14 MB, not 33) and return role to file name."""
    from tokenizers import Tokenizer

    Tokenizer.from_file(str(base / TOKENIZER)).save(str(work / TOKENIZER), pretty=False)
    return {"tokenizer": TOKENIZER}


def read_special_ids(base: Path) -> SpecialIds:
    """Return the special ids of the base model's tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / TOKENIZER))
    tokenizer.no_padding()
    content, whole = (tokenizer.encode(probe_texts.SHORT, add_special_tokens=special).ids for special in (False, True))
    start = next(index for index in range(len(whole)) if whole[index : index + len(content)] == content)
    return SpecialIds(before=whole[:start], after=whole[start + len(content) :])


def read_prompts(base: Path) -> dict[str, str]:
    """Return the prompts of a SentenceTransformer folder, by name."""
    settings = base / "config_sentence_transformers.json"
    return (read_object(settings).get("prompts") if settings.exists() else None) or {}


def tokenize(base: Path, texts: list[str], max_tokens: int) -> list[list[int]]:
    """Return the base model's token ids of texts, special ones included, truncated to `max_tokens`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
