"""finetune: an OpenAI-compatible endpoint writes and judges questions; what is no answer is refused and not kept."""

import json

import pytest
from embed_foundry import InputError, RemoteError, RetryableError

from stages import finetune
from stages.common.config.finetune import LlmEndpoint, TokenPrice
from stages.common.sources import similarity
from stages.common.sources.hub import Connection
from stages.finetune import llm
from stages.finetune.documents import Passage
from stages.finetune.llm import endpoint
from support import tiny_finetune
from support.local_server import LocalServer, read_body, reply

TEXTS = ["Buckets keep objects until someone deletes them.", "Versioning keeps every object under a key."]
PASSAGES = [Passage("guide.md", ("Storage", name), True, text) for name, text in zip("AB", TEXTS, strict=True)]
QUESTIONS = ["What keeps objects?", "Is this a bad question?"]


def write_message(content, **fields):
    """Return a chat completion as OpenAI's API and those like it send it."""
    message = {"role": "assistant", "content": content} | fields.pop("message", {})
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | fields
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


def answer_well(prompt):
    """Return the content of a good reply: a bad question has the mark 1."""
    if prompt.startswith("Write"):
        return json.dumps({"questions": QUESTIONS})
    return json.dumps({"mark": 1 if "bad question" in prompt else 5})


class Server(LocalServer):
    """Speaks the chat completions protocol.

    Attributes:
        bodies: of the requests so far.
        keys: the Authorization header of each.
        queue: status and JSON value of the next replies; then those that `write` gives for a body.
        refused: options that it answers with 400, in the words of `refusal`.
    """

    def __init__(self):
        super().__init__(self.answer)
        self.bodies, self.keys, self.queue, self.refused = [], [], [], ()
        self.refusal = "Invalid parameter: '{}' is not supported with this model."
        self.write = lambda body: write_message(answer_well(body["messages"][0]["content"]))

    def answer(self, request):
        body = json.loads(read_body(request))
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        status, value = self.queue.pop(0) if self.queue else (200, None)
        if refused := [option for option in self.refused if option in body]:
            status, value = 400, {"error": {"message": self.refusal.format(refused[0]), "param": refused[0]}}
        content = json.dumps(self.write(body) if value is None else value)
        reply(request, status if request.path == "/v1/chat/completions" else 404, {}, content.encode())


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(endpoint, "CONNECTION", Connection(attempts=3, wait_s=0.01, timeout_s=5))
    with Server() as running:
        yield running


@pytest.fixture
def generate(server, tmp_path):
    """Return a function that asks the server about the passages, or some of them."""

    def ask(passages=PASSAGES, **changes):
        defaults = {"url": f"{server.url}/v1", "model": "judge-7b", "api_key_env": None, "queries": 2, "judge_min": 4}
        return llm.generate_examples(passages, LlmEndpoint(**defaults | changes), tmp_path / "replies")

    return ask


def test_the_judge_keeps_good_questions_and_replies_are_paid_for_once(server, generate, capsys):
    generated = generate(price=TokenPrice(prompt=1, completion=10))
    assert [(triplet.anchor, triplet.positive, triplet.group) for triplet in generated.triplets] == [
        (QUESTIONS[0], text, "guide.md") for text in TEXTS
    ]
    assert generated.left_out == {"llm: marked too low": 2}
    assert {body["response_format"]["json_schema"]["name"] for body in server.bodies} == {"questions", "mark"}
    assert all(body["response_format"]["json_schema"]["strict"] for body in server.bodies)
    lines = capsys.readouterr().err
    assert "6 requests, 0 replies refused, 0 replies kept from before, 600 prompt and 60 completion tokens" in lines
    assert "cost 0.0012" in lines
    assert generate() == generated
    assert len(server.bodies) == 6
    assert "0 requests, 0 replies refused, 6 replies kept" in capsys.readouterr().err


def test_the_stage_records_what_the_endpoint_left_out(server, base, root, tmp_path, monkeypatch):
    place = tiny_finetune.write_place(tmp_path, base / "tokenizer.json")
    (place / "docs").mkdir()
    for number, subject in enumerate(tiny_finetune.SUBJECTS * 4):
        text = f"The {subject} number {number} is described here in some words, which nobody has to read. " * 2
        (place / "docs" / f"{number}.md").write_text(f"# Part {number}\n\n{text}\n")
    server.write = lambda body: write_message(write_own_questions(body["messages"][0]["content"]))
    changes = {"data.source": "documents", "data.path": str(place / "docs"), "epochs": 0.7}
    settings = tiny_finetune.compose_settings(root, **changes).finetune
    llm_settings = LlmEndpoint(url=f"{server.url}/v1", model="judge", api_key_env=None, queries=2, judge_min=4)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"llm": llm_settings})})
    pairs = {task: rated[:5] for task, rated in similarity.load_pairs().items()}
    monkeypatch.setattr(similarity, "load_pairs", lambda: pairs)
    model = tiny_finetune.model(tiny_finetune.compose_settings(root))
    report = finetune.run(settings, model, place / "base", place / "data", place / "out", place / "scratch")
    record = json.loads((place / "out" / "training.json").read_text())
    counts = {"accepted": 43, "refused": 44, "unanswered": 1}
    assert json.loads((place / "out" / "questions.json").read_text()) == counts
    assert sum(record["examples"].values()) == 43
    assert record["left_out"]["llm: marked too low"] == 44
    assert record["left_out"]["llm: no reply that parses"] == 1
    assert any("44 (llm: marked too low), 1 (llm: no reply that parses)" in note for note in report.notes)


def write_own_questions(prompt):
    """Return a good and a bad question about a passage, and no mark for one of them."""
    number = prompt.partition("number ")[2].partition(" ")[0]
    if prompt.startswith("Write"):
        return json.dumps({"questions": [f"What is {number}?", f"Is {number} a bad question?"]})
    return "I cannot say." if "What is 7?" in prompt else answer_well(prompt)


def test_without_a_judge_every_question_stays(generate):
    assert len(generate(judge_min=None).triplets) == 4


def test_thoughts_in_their_own_field_are_no_answer(server, generate):
    """vLLM and DeepSeek send reasoning_content, Ollama reasoning."""
    fields = {"reasoning_content": '{"questions": ["thought"]}', "reasoning": '{"mark": 1}'}
    server.write = lambda body: write_message(answer_well(body["messages"][0]["content"]), message=fields)
    assert {triplet.anchor for triplet in generate().triplets} == {QUESTIONS[0]}


def test_options_that_an_endpoint_refuses_are_left_out_from_then_on(server, generate, capsys):
    """OpenAI's older models take no schema, its reasoning models no temperature, Mistral's API no seed."""
    server.refused = ("response_format", "temperature", "seed")
    generated = generate()
    assert len(generated.triplets) == 2
    assert len(server.bodies) == 6 + 3
    assert set(server.bodies[-1]) == {"model", "messages"}
    assert "the endpoint takes no response_format" in capsys.readouterr().err


def test_a_schema_that_is_ignored_is_made_up_for_by_the_parser(server, generate):
    """Ollama before 0.5 answers as it likes, here with thoughts and a code fence."""
    server.write = lambda body: write_message(
        f"<think>\nMaybe 3 or 1?\n</think>\nHere it is:\n```json\n{answer_well(body['messages'][0]['content'])}\n```"
    )
    assert {triplet.anchor for triplet in generate().triplets} == {QUESTIONS[0]}


BROKEN = {
    "is cut off at the token limit": write_message('{"questions": ["What', finish_reason="length"),
    "is cut off by a content filter": write_message(None, finish_reason="content_filter"),
    "calls a tool": write_message(None, message={"tool_calls": [{"id": "x"}]}),
    "is a refusal": write_message(None, message={"refusal": "I cannot help with that."}),
    "has no content": write_message(None),
    "has no message": {"choices": []},
    "is still thinking": write_message("<think>The passage says"),
    "has broken JSON": write_message('{"questions": ["What", "Wh'),
    "has no JSON object": write_message("Sure! I would ask:\n1. What is it?"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_reply_that_is_no_answer_is_refused_and_asked_again(reason, server, generate, tmp_path):
    server.queue = [(200, BROKEN[reason])]
    assert len(generate(PASSAGES[:1]).triplets) == 1
    assert [(body["seed"], body["temperature"] > 0) for body in server.bodies[:2]] == [(0, False), (1, True)]
    kept = [json.loads(path.read_bytes())["content"] for path in (tmp_path / "replies").iterdir()]
    assert sorted(kept) == sorted([answer_well("Write"), answer_well(""), answer_well("bad question")])
    server.queue = [(200, BROKEN[reason])] * endpoint.TRIES
    with pytest.raises(RemoteError, match=rf"1 of 1 requests have no reply that parses.*The last such reply {reason}"):
        generate(PASSAGES[1:])


def test_a_few_unanswered_requests_are_counted_and_asked_again_by_the_next_run(server, generate):
    passages = [Passage("a.md", (), True, f"Passage {number} says something.") for number in range(8)]
    server.write = lambda body: write_message(
        None if "Passage 3" in body["messages"][0]["content"] else answer_well(body["messages"][0]["content"])
    )
    generated = generate(passages)
    assert (len(generated.triplets), generated.left_out) == (
        7,
        {"llm: marked too low": 7, "llm: no reply that parses": 1},
    )
    server.write = lambda body: write_message(answer_well(body["messages"][0]["content"]))
    assert len(generate(passages).triplets) == 8


def test_an_endpoint_that_never_answers_ends_the_run_early(server, generate):
    passages = [Passage("a.md", (), True, f"Passage {number} says something.") for number in range(40)]
    server.write = lambda _: write_message("I would rather not.")
    with pytest.raises(RemoteError, match=r"5 of 5 requests .*I would rather not"):
        generate(passages)
    assert len(server.bodies) == 5 * endpoint.TRIES


def test_a_kept_reply_that_is_damaged_is_asked_for_again(generate, server, tmp_path):
    generated = generate()
    for number, path in enumerate(sorted((tmp_path / "replies").iterdir())):
        path.write_bytes([b"", b"{", b'"text"', b'{"content": "5"}', b"\xff", b"[]"][number])
    assert generate() == generated
    assert len(server.bodies) == 12


@pytest.mark.parametrize(
    ("status", "value", "message"),
    [
        (401, {"error": {"message": "Incorrect API key"}}, "refuses with 401: .*Incorrect API key"),
        (404, {"error": "model not found"}, "refuses with 404"),
        (400, {"error": {"message": "maximum context length is 10 tokens"}}, "refuses with 400"),
        (200, {"error": {"message": "No credits left", "code": 402}}, "No credits left.*expected a chat completion"),
        (200, "<html>", "expected a chat completion"),
        (200, [1], "expected a chat completion"),
    ],
)
def test_a_refusal_ends_the_stage(status, value, message, server, generate):
    server.queue = [(status, value)]
    with pytest.raises(RemoteError, match=message):
        generate()
    assert len(server.bodies) == 1


def test_a_busy_endpoint_is_asked_again_and_one_that_stays_busy_can_be_tried_later(server, generate):
    server.queue = [(503, {}), (429, {})]
    assert generate(PASSAGES[:1]).triplets
    server.queue = [(503, {})] * 3
    with pytest.raises(RetryableError, match=r"stays busy.*Run again; replies so far are in"):
        generate()
    with pytest.raises(RetryableError, match="cannot be reached"):
        generate(url="http://127.0.0.1:9/v1", model="other")
    with pytest.raises(RemoteError, match="cannot be asked"):
        generate(url="http://a:b:c/v1", model="other")


def test_the_key_comes_from_the_environment(server, generate, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="MY_KEY is not set"):
        generate(api_key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", "ключ")
    with pytest.raises(InputError, match="MY_KEY holds characters that no key has"):
        generate(api_key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", "s3cret\n")
    generate(api_key_env="MY_KEY")
    assert set(server.keys) == {"Bearer s3cret"}
    assert not any(b"s3cret" in path.read_bytes() for path in (tmp_path / "replies").iterdir())
