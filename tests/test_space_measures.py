"""What compare measures by: tasks in BEIR's layout, nDCG, bounds of a ratio, and the fit of a map."""

import dataclasses

import numpy as np
import pytrec_eval
from embed_foundry.spaces import bounds, linear_map, ranking
from embed_foundry.spaces.texts import load_task

from support.spaces import write_task


def test_a_task_of_beir_itself_is_read(tmp_path):
    """Its files call an id "_id"."""
    task = write_task(tmp_path / "Halves")
    beir = tmp_path / "beir"
    beir.mkdir()
    for path in task.iterdir():
        text = path.read_text(encoding="utf-8").replace('{"id": ', '{"_id": ')
        (beir / path.name).write_text(text, encoding="utf-8")
    assert dataclasses.replace(load_task(beir), name=task.name) == load_task(task)


def test_a_ranking_is_scored_as_trec_eval_does():
    rng = np.random.default_rng(0)
    queries, documents = (rng.standard_normal((count, 8)).astype(np.float32) for count in (20, 40))
    relevant = [{int(d): float(rng.integers(1, 4)) for d in rng.choice(40, 12, replace=False)} for _ in range(20)]
    ranks = ranking.rank(queries, documents)
    qrels = {str(q): {str(d): int(grade) for d, grade in row.items()} for q, row in enumerate(relevant)}
    similar = queries @ documents.T
    run = {str(q): {str(d): float(similar[q, d]) for d in range(40)} for q in range(20)}
    scored = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    expected = [scored[str(q)]["ndcg_cut_10"] for q in range(20)]
    np.testing.assert_allclose(ranking.score_ndcg(ranks, relevant), expected)


def test_a_ratio_of_nothing_has_no_bounds_and_passes_no_limit():
    empty = bounds.bound_ratio(np.zeros(5), np.zeros(5))
    assert not empty.low >= 0
    assert bounds.bound_ratio(np.ones(5), np.ones(5)).low == 1.0


def test_a_map_of_too_few_texts_is_held_back_by_its_penalty():
    """Without a penalty, 30 texts fit 64 dimensions exactly, noise included."""
    rng = np.random.default_rng(0)
    source = rng.standard_normal((400, 64)).astype(np.float32)
    target = source @ np.linalg.qr(rng.standard_normal((64, 64)))[0].astype(np.float32)
    noisy = target + rng.standard_normal(target.shape).astype(np.float32)
    matrix, penalty = linear_map.fit(source[:100], noisy[:100])
    exact = np.linalg.lstsq(source[:100], noisy[:100], rcond=None)[0]
    assert penalty > linear_map.PENALTIES[0]
    errors = [((source[100:] @ fitted - target[100:]) ** 2).mean() for fitted in (matrix, exact)]
    assert errors[0] < 0.8 * errors[1]
