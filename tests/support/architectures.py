"""Tiny SentenceTransformers of random weights, one for each architecture that users bring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from stages.common.sources import probe_texts

WIDTH, HEADS, LAYERS, POSITIONS, ROWS = 64, 4, 2, 256, 600
BERT = {
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 96,
    "max_position_embeddings": POSITIONS,
}
ROTARY = BERT | {"num_key_value_heads": 2, "head_dim": 16}
# name -> tokenizer, pooling, configuration beside the vocabulary
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("wordpiece", "mean", BERT),
    "roberta": ("bpe", "mean", BERT | {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}),
    "xlm-roberta": ("unigram", "mean", BERT | {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}),
    "mpnet": ("wordpiece", "mean", BERT | {"max_position_embeddings": POSITIONS + 2}),
    "distilbert": (
        "wordpiece",
        "cls",
        {"dim": WIDTH, "n_heads": HEADS, "n_layers": LAYERS, "hidden_dim": 96, "max_position_embeddings": POSITIONS},
    ),
    "albert": ("unigram", "mean", BERT | {"embedding_size": 32}),
    "electra": ("wordpiece", "max", BERT | {"embedding_size": 32}),
    "deberta-v2": (
        "unigram",
        "mean",
        BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    ),
    "modernbert": (
        "bpe",
        "cls",
        BERT | {"num_hidden_layers": 4, "local_attention": 32, "global_attn_every_n_layers": 3},
    ),
    "eurobert": ("bpe", "mean", ROTARY),
    "nomic_bert": ("wordpiece", "mean", BERT | {"type_vocab_size": 2}),
    "jina_embeddings_v3": ("unigram", "mean", BERT),
    "qwen3": ("bpe", "lasttoken", ROTARY),
    "gemma3_text": (
        "bpe",
        "mean",
        ROTARY
        | {
            "num_key_value_heads": 1,
            "use_bidirectional_attention": True,
            "sliding_window": 32,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
            "query_pre_attn_scalar": 16,
        },
    ),
    "t5": ("unigram", "mean", {"d_model": WIDTH, "d_kv": 16, "num_heads": HEADS, "num_layers": LAYERS, "d_ff": 96}),
    "gte": ("wordpiece", "weightedmean", BERT),
}
# A tokenizer and its special tokens, by transformers' names.
Trained = tuple[Tokenizer, dict[str, str]]
# What a model's configuration says of them.
SETTINGS = {"dimensions": WIDTH, "matryoshka": [WIDTH], "max_tokens": POSITIONS, "prompts": {}}
# Architectures of one model_type that only differ in pooling or tokenizer.
MODEL_TYPES = {"gte": "bert"}


def build(name: str, folder: Path, *, dimensions: int | None = None) -> Path:
    """Save a SentenceTransformer of random weights and return its folder.

    Args:
        name: a key of ARCHITECTURES.
        folder: where to.
        dimensions: width of a Dense head after pooling; None adds none.
    """
    import torch  # here: every test process loads this module, and most build no model
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import AutoConfig, AutoModel, T5EncoderModel

    tokenizer_kind, pooling, settings = ARCHITECTURES[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model(MODEL_TYPES.get(name, name), vocab_size=ROWS, pad_token_id=0, **settings)
    model = T5EncoderModel(config) if name == "t5" else AutoModel.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():  # the usual 0.02 would leave all vectors alike
            if weight.ndim == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
    source = folder.with_name(f"{folder.name}.transformer")
    model.eval().save_pretrained(source)
    save_tokenizer(tokenizer_kind, source)
    transformer = Transformer(str(source), max_seq_length=POSITIONS)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling)]
    if dimensions:
        modules.append(Dense(transformer.get_embedding_dimension(), dimensions))
    SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save(str(folder), create_model_card=False)
    return folder


def save_tokenizer(kind: str, folder: Path) -> None:
    """Train a tokenizer, a key of TOKENIZERS, and save it as transformers does."""
    from transformers import PreTrainedTokenizerFast

    tokenizer, special = TOKENIZERS[kind]()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **special)
    fast.save_pretrained(folder)


def _train(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator(probe_texts.read_texts() * 2, trainer)
    return tokenizer


def surround(tokenizer: Tokenizer, before: str, after: str) -> Any:
    """Return what puts one special token before a text and one after it."""
    ids = [(token, tokenizer.token_to_id(token)) for token in (before, after)]
    return processors.TemplateProcessing(single=f"{before} $A {after}", special_tokens=ids)


def _wordpiece() -> Trained:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    _train(tokenizer, trainers.WordPieceTrainer(vocab_size=ROWS, special_tokens=special))
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return tokenizer, {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }


def _unigram() -> Trained:
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    _train(tokenizer, trainers.UnigramTrainer(vocab_size=ROWS - 50, special_tokens=special, unk_token="<unk>"))
    tokenizer.post_processor = surround(tokenizer, "<s>", "</s>")
    return tokenizer, {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def _bpe() -> Trained:
    special = ["<pad>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _train(tokenizer, trainers.BpeTrainer(vocab_size=ROWS, special_tokens=special, initial_alphabet=alphabet))
    tokenizer.post_processor = surround(tokenizer, "<s>", "</s>")
    return tokenizer, {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


TOKENIZERS: dict[str, Callable[[], Trained]] = {
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "bpe": _bpe,
}
