"""The parser of a model's reply: what models wrap around an answer, and what is none."""

import pytest

from stages.finetune.llm import answers


@pytest.mark.parametrize(
    "content",
    [
        '{"questions": ["What is it?", "Why?"]}',
        '<think>1. Maybe 4?\n</think>\n\n["What is it?", "Why?"]',
        "the template opened the thought </think> 1. What is it?\n2. Why?",
        '```json\n{"questions": ["What is it?", "Why?"], "language": "en"}\n```\nAnything else?',
        "```\n- What is it?\n- Why?\n```",
        "* What is it?\n\n* Why?\n",
        '<|channel|>analysis<|message|>["no"]<|end|><|channel|>final<|message|>["What is it?", "Why?"]',
        '[THINK]["no"][/THINK]{"questions": ["What is it?", "Why?"]}',
        'Of {these} [two]: {"questions": ["What\\n is it?", "Why?"]}',
        '{"questions": ["What is it?", "Why?"]}\n\n{"questions": ["What is it?", "Why?"]}',
    ],
)
def test_what_models_wrap_around_questions_is_left_out(content):
    assert answers.parse_questions(content) == ["What is it?", "Why?"]


@pytest.mark.parametrize(
    "content",
    [
        "What is it?\nWhy?",
        "Sure:\n1. What is it?",
        '{"questions": []}',
        '{"questions": ["What is it?", ""]}',
        '{"questions": ["What is it?", 3]}',
        '{"questions": ["half an emoji \\ud83d"]}',
        '{"questions": ["What\\u0000?"]}',
        '{"questions": ["a"]} or rather {"questions": ["b"]}',
        '{"questions": ["a"], "questions": ["b"]}',
        '{"questions": ["What is it?"], "more": ["cut',
        '<think>{"questions": ["a"]}',
        "[" * 30_000,
        "[1," * 6_000,
        '{"questions": ["' + "a" * 30_000 + '"]}',
        "",
        "None",
    ],
)
def test_what_is_not_questions_is_refused(content):
    with pytest.raises(answers.RefusedAnswerError):
        answers.parse_questions(content)


@pytest.mark.parametrize(
    ("content", "mark"),
    [
        ('{"mark": 4}', 4),
        ("<think>1 or 2? It has 3 parts.</think>{'mark'} is: {\"mark\": 5.0}", 5),
        ('{"reason": "2 of 3 parts", "mark": 3}', 3),
    ],
)
def test_the_mark_is_the_field(content, mark):
    assert answers.parse_mark(content) == mark


@pytest.mark.parametrize(
    "content",
    ["5", "Mark: 5", '{"mark": "5"}', '{"mark": true}', '{"mark": 6}', '{"mark": 4.5}', '{"mark": NaN}', "[4]",
     '{"mark": 1} … {"mark": 5}', '{"mark": 1e999}', "<think>5"],
)  # fmt: skip
def test_a_digit_elsewhere_is_no_mark(content):
    with pytest.raises(answers.RefusedAnswerError):
        answers.parse_mark(content)
