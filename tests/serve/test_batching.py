"""Which texts make the next call: a pure queue, without clock or thread."""

import random
from types import SimpleNamespace

import pytest
from embed_foundry.serve.batching import Entry, Load, Sharing, WaitingTexts, sharing_of


def queue(*, dead=()):
    return WaitingTexts(lambda item: item not in dead)


def add(waiting, items, tokens, groups=None):
    """Add a request; a token costs a second."""
    groups = groups or [None] * len(tokens)
    entries = zip(items, tokens, groups, strict=True)
    return waiting.add([Entry(item, count, float(count), group) for item, count, group in entries])


def take_all(waiting, most_tokens=64, most_texts=8):
    return list(iter(lambda: waiting.take(most_tokens, most_texts), []))


@pytest.mark.parametrize(
    ("kind", "batching", "sharing"),
    [
        ("static", "padded", Sharing.ANY),
        ("onnx", "padded", Sharing.NONE),  # another product is split otherwise, even beside texts of its length
        ("onnx", "equal_length", Sharing.EQUAL_LENGTH),
        ("openvino", "equal_length", Sharing.EQUAL_LENGTH),
        ("openvino", "single", Sharing.NONE),
        ("tflite", "padded", Sharing.NONE),
        ("torch", "padded", Sharing.NONE),
    ],
)
def test_texts_share_a_call_only_where_no_byte_can_change(kind, batching, sharing):
    assert sharing_of(SimpleNamespace(kind=kind, batching=batching)) is sharing


def test_texts_of_one_group_share_a_call_whichever_request_they_are_of():
    waiting = queue()
    add(waiting, ["a", "b"], [5, 9], [5, 9])
    add(waiting, ["c", "d"], [5, 7], [5, 7])
    assert take_all(waiting) == [["a", "c"], ["b"], ["d"]]


def test_texts_without_a_group_have_a_call_each():
    waiting = queue()
    add(waiting, ["a", "b"], [5, 5])
    assert take_all(waiting) == [["a"], ["b"]]


def test_a_call_keeps_to_its_budget_and_a_text_over_it_runs_alone():
    """Bug row 1 (TEI 723): one text over the budget made an endless loop."""
    waiting = queue()
    add(waiting, ["long", *"abc"], [100, 30, 30, 30], [1, 1, 1, 1])
    assert take_all(waiting) == [["long"], ["a", "b"], ["c"]]


def test_a_single_text_does_not_wait_behind_a_large_request():
    waiting = queue()
    add(waiting, list(range(100)), [50] * 100)
    assert waiting.take(64, 8) == [0]
    assert waiting.take(64, 8) == [1]
    add(waiting, ["question"], [8])
    assert ["question"] in (waiting.take(64, 8), waiting.take(64, 8))


def test_requests_share_time_and_not_tokens():
    """A table looks ten thousand tokens up while a model multiplies ten."""
    waiting = queue()
    waiting.add([Entry(f"slow {number}", 10, 1.0) for number in range(10)])
    waiting.add([Entry(f"fast {number}", 1000, 0.1) for number in range(10)])
    order = [call[0] for call in take_all(waiting, most_texts=1)]
    assert order.index("fast 9") < order.index("slow 3")


def test_every_turn_comes_while_new_requests_keep_coming():
    waiting = queue()
    add(waiting, ["old", "older"], [50, 50])
    for number in range(100):
        add(waiting, [number], [5])
        if waiting.take(64, 8) == ["older"]:
            return
    raise AssertionError("starved")


def test_what_nobody_waits_for_is_dropped_when_its_turn_comes():
    """Bug row 16: requests whose client has left were computed all the same."""
    waiting = queue(dead={"b", "c"})
    add(waiting, [*"abcd"], [5, 5, 5, 5], [5, 5, None, 5])
    assert take_all(waiting) == [["a", "d"]]
    assert waiting.load == Load()


def test_a_request_that_leaves_counts_no_more():
    """Bug row 16: a queue full of those whose clients left must not refuse those who are there."""
    waiting = queue()
    flow = add(waiting, [*"abc"], [5, 5, 7], [5, 5, None])
    add(waiting, ["d"], [5], [5])
    assert waiting.take(64, 1) == ["a"]
    waiting.remove(flow)
    assert waiting.load == Load(1, 5, 5.0)
    waiting.remove(flow)
    assert take_all(waiting) == [["d"]]
    assert waiting.load == Load()


def test_requests_that_come_and_leave_take_no_memory():
    """Bug row 5 (TEI 156, infinity 517), where clients give up behind a long request."""
    waiting = queue()
    add(waiting, ["first"] * 3, [50] * 3)
    for _ in range(1000):
        waiting.remove(add(waiting, list(range(20)), [5] * 20, [1] * 20))
    assert len(waiting._heap) + sum(map(len, waiting._groups.values())) < 100
    assert take_all(waiting) == [["first"]] * 3


def test_random_queues_give_every_text_once_and_end():
    chance = random.Random(3)
    for _ in range(300):
        waiting, added, taken = queue(), [], []
        for request in range(chance.randint(1, 12)):
            items = [(request, number) for number in range(chance.randint(1, 9))]
            tokens = [chance.randint(1, 90) for _ in items]
            flow = add(waiting, items, tokens, [chance.choice([None, count % 3]) for count in tokens])
            if chance.random() < 0.2:
                waiting.remove(flow)
            else:
                added += items
            if chance.random() < 0.5:
                taken += waiting.take(64, 4)
        for call in take_all(waiting, 64, 4):
            assert len(call) <= 4
            taken += call
        assert sorted(taken) == sorted(added)
        assert waiting.load == Load()
