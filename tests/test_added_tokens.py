"""Added tokens beside SentencePiece: texts are split as Hugging Face tokenizers splits them."""

import random

from embed_foundry.encoders import added_tokens
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace


def test_texts_split_at_added_tokens_as_tokenizers_splits_them():
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokens = {
        "<a>": flags,
        "<a><b>": flags,
        "<left>": flags | {"lstrip": True},
        "<right>": flags | {"rstrip": True},
        "word": flags | {"single_word": True},
        "two words": flags | {"normalized": True},
        "▁▁": flags | {"normalized": True},
    }
    original = Tokenizer(BPE({chr(code): code for code in range(0x21, 0x7F)} | {"▁": 127, "\t": 128}, []))
    original.normalizer = Replace(" ", "▁")
    original.add_tokens([AddedToken(content, **settings) for content, settings in tokens.items()])
    added = [
        added_tokens.AddedToken(content, original.token_to_id(content), **settings)
        for content, settings in tokens.items()
    ]
    splitter = added_tokens.AddedTokenSplitter(added)
    parts, draw = [*tokens, " ", "  ", "x", "\t", "<", "▁"], random.Random(0)
    for text in ("".join(draw.choices(parts, k=6)) for _ in range(2000)):
        ids = []
        for part in splitter.split(text):
            # The rest holds no added token: characters only.
            ids += [part] if isinstance(part, int) else [original.token_to_id(c) for c in part.replace(" ", "▁")]
        assert ids == original.encode(text).ids, text
