"""The base model's tokenizer: its file without white space for a variant, the special ids around a text."""

from pathlib import Path

from stages.common.sources import probe_texts

TOKENIZER = "tokenizer.json"


def copy_tokenizer(base: Path, work: Path) -> dict[str, str]:
    """Write the base model's tokenizer compactly (EmbeddingGemma: 14 MB, not 33) and return role to file name."""
    from tokenizers import Tokenizer

    Tokenizer.from_file(str(base / TOKENIZER)).save(str(work / TOKENIZER), pretty=False)
    return {"tokenizer": TOKENIZER}


def special_ids(base: Path) -> tuple[list[int], list[int]]:
    """Return the ids that the base model's tokenizer puts before and after every text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / TOKENIZER))
    tokenizer.no_padding()
    inside, around = (tokenizer.encode(probe_texts.SHORT, add_special_tokens=more).ids for more in (False, True))
    start = next(at for at in range(len(around)) if around[at : at + len(inside)] == inside)
    return around[:start], around[start + len(inside) :]
