"""finetune: documents become passages and questions, by structure."""

import pytest
from embed_foundry import InputError

from stages.finetune import documents

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
    with pytest.raises(InputError, match=r"no \.md, .* file has a section of 100 characters"):
        documents.read_passages(tmp_path)
