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


def test_passages_know_their_titles(folder):
    found = documents.passages(folder)
    titles = {(one.document, one.titles) for one in found}
    assert ("guide.md", ("Storage guide", "Versioning")) in titles
    assert ("page.html", ("Lambda",)) in titles
    assert ("plain.txt", ()) in titles
    assert not any("var a" in one.text or "#" in one.text or "<" in one.text for one in found)


def test_questions_come_from_headings_or_first_sentences_and_are_not_in_the_passage(folder):
    found = {one.anchor: one for one in documents.by_structure(documents.passages(folder))}
    assert set(found) >= {"Storage guide: Versioning", "Lambda", "The first sentence says what it is about."}
    assert found["Lambda"].group == "page.html"
    assert all(one.anchor not in one.positive for one in found.values())


def test_a_long_section_becomes_several_passages(tmp_path):
    (tmp_path / "long.md").write_text("# Title\n\n" + "\n\n".join([LONG] * 20))
    found = documents.passages(tmp_path)
    assert len(found) > 2
    assert [one.opens for one in found] == [True] + [False] * (len(found) - 1)
    assert all(len(one.text) < 2 * documents.PASSAGE for one in found)


def test_a_folder_without_text_is_told(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        documents.passages(tmp_path / "none")
    with pytest.raises(InputError, match=r"no \.md, \.txt, \.html file"):
        documents.passages(tmp_path)


class Endpoint(LocalServer):
    """Speaks the chat completions protocol; `status` is what it answers with, once each."""

    def __init__(self):
        super().__init__(self.answer)
        self.asked, self.status, self.keys = [], [], []

    def answer(self, request):
        body = json.loads(read_body(request))
        status = self.status.pop(0) if self.status else 200
        question = body["messages"][0]["content"]
        self.asked.append((request.path, body["model"], question))
        self.keys.append(request.headers.get("Authorization"))
        if question.startswith("Write"):
            text = question.rpartition("Passage: ")[2]
            content = f"1. What is {text.split()[1]}?\n- Is this a bad question?\n\n* A third?"
        else:
            content = "Mark: 1" if "bad question" in question else "5"
        reply(request, status, {}, json.dumps({"choices": [{"message": {"content": content}}]}).encode())


@pytest.fixture
def endpoint():
    with Endpoint() as server:
        yield server


def settings(endpoint, **changes):
    known = {"url": f"{endpoint.url}/v1", "model": "judge-7b", "api_key_env": None, "queries": 2, "judge_min": 4}
    return LlmEndpoint(**known | changes)


def test_the_judge_keeps_good_questions_and_replies_are_paid_for_once(endpoint, folder, tmp_path):
    found = documents.passages(folder)
    triplets, refused = llm.by_questions(found, settings(endpoint), tmp_path / "kept")
    assert len(triplets) == refused == len(found), (
        "one good and one bad question a passage, the third is over the limit"
    )
    assert all(one.anchor.startswith("What is ") for one in triplets)
    assert {one.group for one in triplets} == {one.document for one in found}
    assert {(path, model) for path, model, _ in endpoint.asked} == {("/v1/chat/completions", "judge-7b")}
    count = len(endpoint.asked)
    assert llm.by_questions(found, settings(endpoint), tmp_path / "kept") == (triplets, refused)
    assert len(endpoint.asked) == count


def test_without_a_judge_every_question_stays(endpoint, folder, tmp_path):
    found = documents.passages(folder)
    triplets, refused = llm.by_questions(found, settings(endpoint, judge_min=None), tmp_path / "kept")
    assert (len(triplets), refused) == (2 * len(found), 0)


def test_a_busy_endpoint_is_asked_again_and_a_refusal_ends_it(endpoint, folder, tmp_path, monkeypatch):
    found = documents.passages(folder)[:1]
    endpoint.status = [503, 429]
    assert llm.by_questions(found, settings(endpoint), tmp_path / "kept")[0]
    endpoint.status = [401]
    with pytest.raises(RemoteError, match="401"):
        llm.by_questions(found, settings(endpoint, model="other"), tmp_path / "kept")
    monkeypatch.setattr(llm, "TRIES", 0)
    with pytest.raises(RetryableError, match="cannot be reached"):
        llm.by_questions(found, settings(endpoint, url="http://127.0.0.1:9"), tmp_path / "kept")


def test_the_key_comes_from_the_environment(endpoint, folder, tmp_path, monkeypatch):
    found = documents.passages(folder)[:1]
    with pytest.raises(InputError, match="MY_KEY is not set"):
        llm.by_questions(found, settings(endpoint, api_key_env="MY_KEY"), tmp_path / "kept")
    monkeypatch.setenv("MY_KEY", "s3cret")
    llm.by_questions(found, settings(endpoint, api_key_env="MY_KEY"), tmp_path / "kept")
    assert set(endpoint.keys) == {"Bearer s3cret"}
    assert not any(b"s3cret" in path.read_bytes() for path in (tmp_path / "kept").iterdir())
