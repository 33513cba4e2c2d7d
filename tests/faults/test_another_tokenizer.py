"""A release whose tokenizer is another one: where no digest shows it, its vectors are not those of its probes."""

import json
from collections.abc import Callable

import pytest
from embed_foundry import Bundle, IntegrityError, archive
from faults.doors import GOLDEN

TOKENIZER = "variants/static/tokenizer.json"


def exchange_neighbours(model: dict) -> None:
    """Give every token but the special ones its neighbour's id."""
    names = sorted(model["vocab"], key=model["vocab"].get)[2:]
    for left, right in zip(names[::2], names[1::2], strict=False):
        model["vocab"][left], model["vocab"][right] = model["vocab"][right], model["vocab"][left]


CHANGES = {
    "the same words in another order": lambda tokenizer: exchange_neighbours(tokenizer["model"]),
    "no merges": lambda tokenizer: tokenizer["model"].update(merges=[]),
    "a letter is another": lambda tokenizer: tokenizer.update(
        normalizer={"type": "Replace", "pattern": {"String": "e"}, "content": "a"}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_release_with_another_tokenizer_is_not_opened(tmp_path, change: Callable[[dict], object]):
    bundle = Bundle.load(archive.unpack(GOLDEN, tmp_path).folder)
    assert bundle.open("static")
    path = bundle.folder / TOKENIZER
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    change(tokenizer)
    path.write_text(json.dumps(tokenizer), encoding="utf-8")  # after its digests were compared
    with pytest.raises(IntegrityError, match=r"static: .*prob"):
        bundle.open("static")
