"""A SentencePiece model like Gemma's, of the parity texts, and a tiny Gemma3 with it: byte fallback, <bos> … <eos>."""

import json
import shutil
import tempfile
from pathlib import Path

from embed_foundry import manifest
from sentencepiece import SentencePieceTrainer
from transformers import GemmaTokenizer

from stages.common.sources import probe_texts
from support import tiny_gemma

PIECES = 900


def write(folder: Path, donor: Path, rows: int = PIECES) -> Path:
    """Write a tiny Gemma3 whose tokenizer.model and tokenizer.json were made from each other; return the folder.

    Args:
        folder: where to.
        donor: a tokenizer.json that the folder is first written with.
        rows: token ids that the embedding knows.
    """
    tiny_gemma.write(folder, donor, vocab_size=rows, bos_token_id=2, eos_token_id=1)
    SentencePieceTrainer.train(
        input=str(probe_texts.PATH),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=PIECES,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    _convert(folder / "tokenizer.model").save_pretrained(folder)
    assert "byte_fallback" in json.loads((folder / "tokenizer.json").read_text())["model"]
    manifest.write(folder, {"stage": "download"})
    return folder


def _convert(pieces: Path) -> GemmaTokenizer:
    """Return what transformers makes of a SentencePiece model alone; its <mask> has an id past the pieces."""
    with tempfile.TemporaryDirectory() as alone:
        shutil.copy(pieces, alone)
        return GemmaTokenizer.from_pretrained(alone, add_bos_token=True, add_eos_token=True)
