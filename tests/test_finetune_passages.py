"""finetune: passages of documents in any language, with their source and titles, and the questions taken from them."""

import pytest
from embed_foundry import InputError

from stages.common.sources.sentences import measure_width, split_into_sentences
from stages.finetune import documents

TEXTS = {
    "Russian": "Хранилище держит каждый объект, пока его не удалят. Версии возвращают прежнее состояние объекта. ",
    "Chinese": "存储桶保存每一个对象,直到有人删除它为止。版本控制可以恢复任何对象以前的状态。",
    "Japanese": "バケットは誰かが削除するまですべてを保持します。バージョン管理で以前の状態に戻せます。",
    "Hindi": "भंडार हर वस्तु को तब तक रखता है जब तक उसे हटाया न जाए। संस्करण किसी भी वस्तु की पुरानी स्थिति लौटाते हैं। ",
    "Arabic": "تحتفظ الحاوية بكل كائن حتى يحذفه شخص ما. تعيد الإصدارات الحالة السابقة لأي كائن في الحاوية. ",
    "Thai": "ที่เก็บข้อมูลเก็บวัตถุทุกชิ้นไว้จนกว่าจะมีคนลบ การควบคุมเวอร์ชันคืนสถานะก่อนหน้าของวัตถุใดก็ได้ ",
}


@pytest.fixture
def read(tmp_path):
    """Return a function that returns the passages of one document."""

    def read(content, name="a.md"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return documents.read_passages(tmp_path)

    return read


@pytest.mark.parametrize("language", TEXTS)
def test_documents_of_any_language_give_questions(read, language):
    """One question from the headings, others from first sentences, as English has them."""
    unit = TEXTS[language]
    passages = read(f"# A\n\n## B\n\n{unit * 3}\n\n{unit * 12}\n\n{unit * 3}\n")
    triplets = documents.derive_examples(passages)
    assert len(triplets) == len(passages) >= 2
    assert triplets[0].anchor == "A: B"
    assert {triplet.anchor for triplet in triplets[1:]} <= set(split_into_sentences(unit))
    assert all(len(triplet.anchor) < len(triplet.positive) for triplet in triplets)
    assert all(measure_width(passage.text) < 2 * documents.PASSAGE for passage in passages)


def test_passages_carry_their_source_and_titles(read):
    unit = TEXTS["Russian"]
    sections = f"\n\n{unit * 2}\n\n".join(["---\ntitle: Guide\n---", "## Part", "### Deep", "## Next", ""])
    passages = read(sections)
    assert [(passage.document, passage.line, passage.page, passage.titles) for passage in passages] == [
        ("a.md", 5, None, ("Guide",)),
        ("a.md", 9, None, ("Guide", "Part")),
        ("a.md", 13, None, ("Guide", "Part", "Deep")),
        ("a.md", 17, None, ("Guide", "Next")),
    ]


def test_comments_in_code_are_neither_headings_nor_questions(read):
    unit = TEXTS["Russian"]
    code = "~~~sh\n# a comment that looks like a heading\nrun --fast\n~~~\n"
    passages = read(f"# Title\n\n{unit * 5}\n\n{unit * 5}\n\n{code}\n{unit * 2}\n\n{code}\n\n{unit * 2}")
    assert {passage.titles for passage in passages} == {("Title",)}
    assert any("# a comment" in passage.text for passage in passages), "code is part of an answer"
    triplets = documents.derive_examples(passages)
    assert [triplet.anchor for triplet in triplets] == ["Title"], "the other passage begins with code"
    assert not passages[1].lead


def test_a_long_paragraph_is_divided_between_sentences(read):
    for unit in TEXTS.values():
        passages = read(unit * 40)
        assert len(passages) >= 3
        assert all(measure_width(passage.text) < 1.4 * documents.PASSAGE for passage in passages)
        assert {sentence for passage in passages for sentence in passage.lead.split("\n")} == set(
            split_into_sentences(unit)
        )
        joint = "" if unit[-1] == "。" else " "
        assert joint.join(passage.text for passage in passages) == (unit * 40).strip()


def test_a_long_table_or_listing_is_divided_between_lines(read):
    rows = "".join(f"| row {number} | {'x' * 40} |\n" for number in range(100))
    code = "line of code\n" * 200
    passages = read(f"# T\n\n| a | b |\n|---|---|\n{rows}\n~~~\n{code}~~~\n")
    assert all(measure_width(passage.text) < 2 * documents.PASSAGE for passage in passages)
    assert passages[0].text.startswith("a | b row 0 | xxx")
    assert passages[0].text.endswith("x")
    assert passages[-1].text.endswith("line of code")


def test_a_short_first_sentence_takes_the_next_one_with_it(read):
    rest = TEXTS["Russian"] * 3
    passages = read(f"Dr. Smith wrote all of this guide. It is good. {rest}", "a.txt")
    (triplet,) = documents.derive_examples(passages)
    assert triplet.anchor == "Dr. Smith wrote all of this guide."
    assert triplet.positive.startswith("It is good.")


def test_sections_that_are_too_short_are_told(read):
    with pytest.raises(
        InputError, match=r"has a section of 100 characters \(a Chinese, Japanese or Korean one counts two"
    ):
        read("# Title\n\n太短了。\n")
    assert read("# Title\n\n" + "字" * 50)
