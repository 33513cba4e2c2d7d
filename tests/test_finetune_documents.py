"""finetune: documents become passages and questions, by structure or by an OpenAI-compatible endpoint with a judge."""

import json

import pytest
from embed_foundry import InputError, RemoteError, RetryableError

from stages.common.config.finetune import LlmEndpoint
from stages.finetune import documents, llm
from support.local_server import LocalServer, read_body, reply

LONG = "Every bucket keeps its objects until someone deletes them. " * 3
GUIDE = f"""# Storage guide

{LONG}

## Versioning

Versioning keeps every object that was ever written under a key. {LONG}
A second paragraph of the same section stands here. {LONG}

## Empty
"""
PAGE = f"<html><head><title>x</title><script>var a</script></head><body><h1>Lambda</h1><p>{LONG}</p></body></html>"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text(GUIDE)
    (tmp_path / "docs" / "page.html").write_text(PAGE)
    (tmp_path / "docs" / "plain.txt").write_text(f"The first sentence says what it is about. {LONG}")
    (tmp_path / "docs" / "image.png").write_bytes(b"\x89PNG")
    return tmp_path / "docs"


def test_passages_have_the_titles_above_them(folder):
    passages = documents.read_passages(folder)
    titles = {(passage.document, passage.titles) for passage in passages}
    assert ("guide.md", ("Storage guide", "Versioning")) in titles
    assert ("page.html", ("Lambda",)) in titles
    assert ("plain.txt", ()) in titles
    assert not any(markup in passage.text for passage in passages for markup in ("var a", "#", "<"))


def test_questions_come_from_headings_or_first_sentences_and_are_not_in_the_passage(folder):
    triplets = documents.derive_examples(documents.read_passages(folder))
    groups = {triplet.anchor: triplet.group for triplet in triplets}
    assert set(groups) >= {"Storage guide: Versioning", "Lambda", "The first sentence says what it is about."}
    assert groups["Lambda"] == "page.html"
    assert all(triplet.anchor not in triplet.positive for triplet in triplets)


def test_a_long_section_becomes_several_passages(tmp_path):
    (tmp_path / "long.md").write_text("# Title\n\n" + "\n\n".join([LONG] * 20))
    passages = documents.read_passages(tmp_path)
    assert len(passages) > 2
    assert [passage.opens for passage in passages] == [True] + [False] * (len(passages) - 1)
    assert all(len(passage.text) < 2 * documents.PASSAGE for passage in passages)


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        documents.read_passages(tmp_path / "none")
    with pytest.raises(InputError, match=r"no \.md, \.txt, \.html file"):
        documents.read_passages(tmp_path)


class Endpoint(LocalServer):
    """Speaks the chat completions protocol.

    Attributes:
        requests: path, model and prompt of each request.
        statuses: status codes of the next replies; then 200.
        keys: the Authorization header of each request.
    """

    def __init__(self):
        super().__init__(self.answer)
        self.requests, self.statuses, self.keys = [], [], []

    def answer(self, request):
        body = json.loads(read_body(request))
        status = self.statuses.pop(0) if self.statuses else 200
        prompt = body["messages"][0]["content"]
        self.requests.append((request.path, body["model"], prompt))
        self.keys.append(request.headers.get("Authorization"))
        if prompt.startswith("Write"):
            text = prompt.rpartition("Passage: ")[2]
            content = f"1. What is {text.split()[1]}?\n- Is this a bad question?\n\n* A third?"
        else:
            content = "Mark: 1" if "bad question" in prompt else "5"
        reply(request, status, {}, json.dumps({"choices": [{"message": {"content": content}}]}).encode())


@pytest.fixture
def endpoint():
    with Endpoint() as server:
        yield server


def settings(endpoint, **changes):
    defaults = {"url": f"{endpoint.url}/v1", "model": "judge-7b", "api_key_env": None, "queries": 2, "judge_min": 4}
    return LlmEndpoint(**defaults | changes)


def test_the_judge_keeps_good_questions_and_replies_are_paid_for_once(endpoint, folder, tmp_path):
    passages = documents.read_passages(folder)
    triplets, rejected = llm.generate_examples(passages, settings(endpoint), tmp_path / "replies")
    assert len(triplets) == rejected == len(passages), (
        "one good and one bad question per passage, the third is over the limit"
    )
    assert all(triplet.anchor.startswith("What is ") for triplet in triplets)
    assert {triplet.group for triplet in triplets} == {passage.document for passage in passages}
    assert {(path, model) for path, model, _ in endpoint.requests} == {("/v1/chat/completions", "judge-7b")}
    count = len(endpoint.requests)
    assert llm.generate_examples(passages, settings(endpoint), tmp_path / "replies") == (triplets, rejected)
    assert len(endpoint.requests) == count


def test_without_a_judge_every_question_stays(endpoint, folder, tmp_path):
    passages = documents.read_passages(folder)
    triplets, rejected = llm.generate_examples(passages, settings(endpoint, judge_min=None), tmp_path / "replies")
    assert (len(triplets), rejected) == (2 * len(passages), 0)


def test_a_busy_endpoint_is_asked_again_and_a_refusal_ends_the_stage(endpoint, folder, tmp_path, monkeypatch):
    passages = documents.read_passages(folder)[:1]
    endpoint.statuses = [503, 429]
    assert llm.generate_examples(passages, settings(endpoint), tmp_path / "replies")[0]
    endpoint.statuses = [401]
    with pytest.raises(RemoteError, match="401"):
        llm.generate_examples(passages, settings(endpoint, model="other"), tmp_path / "replies")
    monkeypatch.setattr(llm, "TRIES", 0)
    with pytest.raises(RetryableError, match="cannot be reached"):
        llm.generate_examples(passages, settings(endpoint, url="http://127.0.0.1:9"), tmp_path / "replies")


def test_the_key_comes_from_the_environment(endpoint, folder, tmp_path, monkeypatch):
    passages = documents.read_passages(folder)[:1]
    with pytest.raises(InputError, match="MY_KEY is not set"):
        llm.generate_examples(passages, settings(endpoint, api_key_env="MY_KEY"), tmp_path / "replies")
    monkeypatch.setenv("MY_KEY", "s3cret")
    llm.generate_examples(passages, settings(endpoint, api_key_env="MY_KEY"), tmp_path / "replies")
    assert set(endpoint.keys) == {"Bearer s3cret"}
    assert not any(b"s3cret" in path.read_bytes() for path in (tmp_path / "replies").iterdir())
