"""The tokenizer of a converted variant: the base model's, without the white space of its file."""

from pathlib import Path

TOKENIZER = "tokenizer.json"


def copy_tokenizer(base: Path, work: Path) -> dict[str, str]:
    """Write the base model's tokenizer compactly (EmbeddingGemma: 14 MB, not 33) and return role to file name."""
    from tokenizers import Tokenizer

    Tokenizer.from_file(str(base / TOKENIZER)).save(str(work / TOKENIZER), pretty=False)
    return {"tokenizer": TOKENIZER}
