"""finetune: gains and their intervals, notes about the curves, settings that go together."""

import numpy as np
import pytest
from embed_foundry import InputError

from stages.commands import compose
from stages.finetune import stage
from support.tiny_finetune import compose_settings


def test_ndcg_by_hand_and_the_interval_of_a_gain():
    from stages.finetune.evaluate import bootstrap_gains, compute_ndcg

    similarities = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]], np.float32)
    assert compute_ndcg(similarities, [[1], [0, 2]]) == pytest.approx([1 / np.log2(3), 1.5 / (1 + 1 / np.log2(3))])
    before = {4: np.zeros(100)}
    gain = bootstrap_gains(before, {4: np.linspace(0.1, 0.3, 100)}, 0)["4"]
    assert gain.gain == pytest.approx(0.2)
    assert 0.18 < gain.low < 0.2 < gain.high < 0.22
    assert bootstrap_gains(before, {4: np.zeros(100)}, 0)["4"].low == 0


def test_notes_warn_of_overfitting(tmp_path):
    from stages.finetune.curves import write_curves
    from stages.finetune.notes import describe_training

    evaluations = [(0, 3.0, 0.4), (10, 2.0, 0.6), (20, 2.5, 0.5)]
    history = [{"step": 20, "loss": 0.5}] + [
        {"step": step, "eval_loss": loss, "eval_ndcg": score, "eval_24": score} for step, loss, score in evaluations
    ]
    notes = " ".join(describe_training(history, 10, 20))
    assert "step 10 of 20" in notes
    assert "dev loss rose from 2.000 at step 10 to 2.500" in notes
    assert "train loss 0.500 is far below dev loss 2.500" in notes
    write_curves(history, tmp_path)
    assert (tmp_path / "dev.csv").read_text().splitlines()[:2] == ["step,loss,ndcg,ndcg_24", "0,3.0,0.4,0.4"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finetune=lora", "finetune.weights=models/base"], "method=lora goes with"),
        (["finetune=lora", "finetune.mini_batch_size=65"], "mini_batch_size 65 is larger"),
        (["finetune=lora", "finetune.data.source=documents"], "takes a finetune.data.path"),
        (["finetune=lora", "finetune.data.path=x"], "takes no finetune.data.path"),
        (["finetune=none", "finetune.runs=[lora]"], "at most 0 items"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(root, overrides, message):
    with pytest.raises(InputError, match=message):
        compose.compose(overrides, root / "conf")


def test_a_model_that_gives_all_texts_one_vector_is_refused():
    from stages.finetune import evaluate

    class Collapsed:
        def encode(self, texts, **_settings):
            return np.ones((len(texts), 4), dtype=np.float32) / 2

    with pytest.raises(InputError, match="gives every text the same vector"):
        evaluate.score_graded_similarity(Collapsed(), None)


def test_an_unknown_architecture_and_prompt_are_refused(root):
    from stages.finetune import arguments, trained_model

    params = compose_settings(root)
    with pytest.raises(InputError, match=r"'llama'\. Add its attention's linear layers"):
        trained_model.select_layers(params.finetune, "llama")
    with pytest.raises(InputError, match="has no prompt 'query', only"):
        stage.select_prompts(params.finetune, params.model.model_copy(update={"prompts": {"other": "x"}}))
    columns = ["anchor", "positive", "negative_1"]
    assert arguments.select_column_prompts(columns, {"anchor": "q: ", "negative": "d: "}) == {
        "anchor": "q: ", "negative_1": "d: "
    }  # fmt: skip
    prompted = params.model.model_copy(update={"prompts": {"query": "q: ", "document": "d: "}})
    assert stage.select_prompts(params.finetune, prompted) == {"anchor": "q: ", "positive": "d: ", "negative": "d: "}
