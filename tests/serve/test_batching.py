"""Which texts make the next call: a pure queue, without clock or thread."""

import random

from embed_foundry.serve.batching import WaitingTexts


def queue(*, dead=()):
    return WaitingTexts(lambda item: item not in dead)


def take_all(waiting, most_tokens=64, most_texts=8):
    return list(iter(lambda: waiting.take(most_tokens, most_texts), []))


def test_texts_of_one_group_share_a_call_whichever_request_they_are_of():
    waiting = queue()
    waiting.add(["a", "b"], [5, 9], [5, 9])
    waiting.add(["c", "d"], [5, 7], [5, 7])
    assert take_all(waiting) == [["a", "c"], ["b"], ["d"]]


def test_texts_without_a_group_have_a_call_each():
    waiting = queue()
    waiting.add(["a", "b"], [5, 5], [None, None])
    assert take_all(waiting) == [["a"], ["b"]]


def test_a_call_keeps_to_its_budget_and_a_text_over_it_runs_alone():
    """Bug row 1 (TEI 723): one text over the budget made an endless loop."""
    waiting = queue()
    waiting.add(["long", *"abc"], [100, 30, 30, 30], [1, 1, 1, 1])
    assert take_all(waiting) == [["long"], ["a", "b"], ["c"]]


def test_a_single_text_does_not_wait_behind_a_large_request():
    waiting = queue()
    waiting.add(list(range(100)), [50] * 100, [None] * 100)
    assert waiting.take(64, 8) == [0]
    assert waiting.take(64, 8) == [1]
    waiting.add(["question"], [8], [None])
    assert ["question"] in (waiting.take(64, 8), waiting.take(64, 8))


def test_every_turn_comes_while_new_requests_keep_coming():
    waiting = queue()
    waiting.add(["old", "older"], [50, 50], [None, None])
    for number in range(100):
        waiting.add([number], [5], [None])
        if waiting.take(64, 8) == ["older"]:
            return
    raise AssertionError("starved")


def test_what_nobody_waits_for_is_dropped_when_its_turn_comes():
    """Bug row 16: requests whose client has left were computed all the same."""
    waiting = queue(dead={"b", "c"})
    waiting.add([*"abcd"], [5, 5, 5, 5], [5, 5, None, 5])
    assert take_all(waiting) == [["a", "d"]]
    assert (waiting.texts, waiting.tokens) == (0, 0)


def test_random_queues_give_every_text_once_and_end():
    chance = random.Random(3)
    for _ in range(300):
        waiting, added, taken = queue(), [], []
        for request in range(chance.randint(1, 12)):
            items = [(request, number) for number in range(chance.randint(1, 9))]
            tokens = [chance.randint(1, 90) for _ in items]
            waiting.add(items, tokens, [chance.choice([None, count % 3]) for count in tokens])
            added += items
            if chance.random() < 0.5:
                taken += waiting.take(64, 4)
        for call in take_all(waiting, 64, 4):
            assert len(call) <= 4
            taken += call
        assert sorted(taken) == sorted(added)
        assert (waiting.texts, waiting.tokens) == (0, 0)
