"""finetune: what a gain is, what the curves say in words, which settings go together."""

import numpy as np
import pytest
from embed_foundry import InputError

from stages.commands import compose


def test_ndcg_by_hand_and_the_interval_of_a_gain():
    from stages.finetune import evaluate

    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]], np.float32)
    assert evaluate.ndcg(scores, [[1], [0, 2]]) == pytest.approx([1 / np.log2(3), 1.5 / (1 + 1 / np.log2(3))])
    before = {4: np.zeros(100)}
    sure = evaluate.gains(before, {4: np.linspace(0.1, 0.3, 100)}, 0)["4"]
    assert sure["gain"] == pytest.approx(0.2)
    assert 0.18 < sure["low"] < 0.2 < sure["high"] < 0.22
    assert evaluate.gains(before, {4: np.zeros(100)}, 0)["4"]["low"] == 0


def test_overfitting_is_said_in_words(tmp_path):
    from stages.finetune import words

    looks = [(0, 3.0, 0.4), (10, 2.0, 0.6), (20, 2.5, 0.5)]
    history = [{"step": 20, "loss": 0.5}] + [
        {"step": step, "eval_loss": loss, "eval_ndcg": score, "eval_24": score} for step, loss, score in looks
    ]
    said = " ".join(words.of_training(history, 10, 20))
    assert "step 10 of 20" in said
    assert "dev loss rose from 2.000 at step 10 to 2.500" in said
    assert "train loss 0.500 is far below dev loss 2.500" in said
    words.curves(history, tmp_path)
    assert (tmp_path / "dev.csv").read_text().splitlines()[:2] == ["step,loss,ndcg,ndcg_24", "0,3.0,0.4,0.4"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["finetune=lora", "finetune.weights=models/base"], "method=lora goes with"),
        (["finetune=lora", "finetune.mini_batch_size=65"], "mini_batch_size 65 is larger"),
        (["finetune=lora", "finetune.data.source=documents"], "takes a finetune.data.path"),
        (["finetune=lora", "finetune.data.path=x"], "takes no finetune.data.path"),
        (["finetune=none", "finetune.runs=[lora]"], "at most 0 items"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(root, overrides, words):
    with pytest.raises(InputError, match=words):
        compose.compose(overrides, root / "conf")
