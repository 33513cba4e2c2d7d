"""A user's documents in every format: headings, prose, code and tables as a reader sees them, and where they stand."""

import time

import pytest
from embed_foundry import InputError

from stages.common.sources import corpus, documents
from stages.common.sources.documents import BlockKind
from support.sample_documents import outline, texts, write_chinese_pdf, write_docx, write_pdf

HEADING, PROSE, CODE, TABLE = BlockKind


PAGE = """<!DOCTYPE html><html><head><title>Page | Site</title><style>p {}</style></head><body>
<nav><ul><li>Home</ul></nav><header>Banner</header>
<main><h2 id=a>Part<a class="headerlink" href="#a">¶</a></h2>
<p>First<sup><a href="#f">[1]</a></sup> paragraph&nbsp;with&shy;out an end <script>var a = "<p>no</p>"</script>
<p>Second <ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby> <span hidden>no</span><button>no</button>
<ul><li>one<li>two <ul><li>nested</ul></ul>
<pre><code>x = 1
  y = 2</code></pre>
<table><caption>Prices</caption><thead><tr><th>a<th>b<tbody><tr><td>1<td>two
words</table>
<table><tr><td><h3>Layout</h3><p>In a cell.</table>
<dl><dt>Term<dd>Meaning</dl> line<br>break <p>H<sub>2</sub>O &lt;tag&gt;</main><footer>Imprint</footer></body></html>"""


def test_html_is_what_a_reader_of_the_page_sees(read_document):
    assert outline(read_document("a.html", PAGE)) == [
        (HEADING, 1, "Page | Site"),
        (HEADING, 2, "Part"),
        (PROSE, 0, "First paragraph without an end"),
        (PROSE, 0, "Second 漢字"),
        (PROSE, 0, "one"),
        (PROSE, 0, "two"),
        (PROSE, 0, "nested"),
        (CODE, 0, "x = 1\n  y = 2"),
        (TABLE, 0, "Prices\na | b\n1 | two words"),
        (HEADING, 3, "Layout"),
        (PROSE, 0, "In a cell."),
        (PROSE, 0, "Term"),
        (PROSE, 0, "Meaning"),
        (PROSE, 0, "line break"),
        (PROSE, 0, "H2O <tag>"),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<p>open <b>bold <i>both</b> italic", ["open bold both italic"]),
        ("<div>a<p>b</div>c", ["a", "b", "c"]),
        ("no markup at all", ["no markup at all"]),
        ("<p>banner</p><div role=main>text</div>", ["text"]),
        ("<main></main><p>text", ["text"]),
        ("<p>a</p></body></html><p>after the end", ["a", "after the end"]),
        ("<p>&#xD800; &#0; &nosuch; &eacute;", ["\ufffd \ufffd &nosuch; é"]),
        ("", []),
        ("<div>" * 3000 + "deep", ["deep"]),
        ("<table>" * 300 + "deep", ["deep"]),
    ],
    ids=range(10),
)
def test_broken_html_is_read_as_browsers_do(read_document, content, expected):
    assert texts(read_document("a.html", content)) == expected


def test_word_documents_have_headings_whatever_their_language(read_document):
    content = write_docx(
        ("Titel", "Handbuch"),
        ("berschrift1", "Speicher & <Ablage>"),
        ("Standard", "Ein Absatz über Größe."),
        ("berschrift2", "Versionen"),
        ("Standard", "第二段。"),
        table=[("a", "b"), ("1", "2")],
    )
    assert outline(read_document("a.docx", content)) == [
        (HEADING, 1, "Speicher & <Ablage>"),
        (PROSE, 0, "Ein Absatz über Größe."),
        (HEADING, 2, "Versionen"),
        (PROSE, 0, "第二段。"),
        (TABLE, 0, "a | b\n1 | 2"),
    ]
    assert outline(read_document("b.docx", write_docx(("Titel", "Handbuch"), ("Standard", "Text."))))[0] == (
        HEADING,
        1,
        "Handbuch",
    )


def test_pdfs_have_pages_and_the_headings_of_their_outline(read_document):
    first = ["Хранилище объектов", "Версии хранят каждый объект.", "Вторая строка того же абзаца."]
    second = ["Удаление", "Объект можно удалить."]
    content = write_pdf(first, second, headings=[(first[0], 0), (second[0], 1)])
    blocks = read_document("a.pdf", content)
    assert [(block.kind, block.page, block.text) for block in blocks] == [
        (HEADING, 1, first[0]),
        (PROSE, 1, " ".join(first[1:])),
        (HEADING, 2, second[0]),
        (PROSE, 2, second[1]),
    ]
    assert texts(read_document("b.pdf", write_chinese_pdf("存储桶保存对象。直到删除。"))) == [
        "存储桶保存对象。直到删除。"
    ]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.pdf", b"no PDF", "a.pdf: is no .pdf file that can be read"),
        ("a.pdf", b"", "a.pdf: is no .pdf file that can be read"),
        ("a.pdf", lambda: write_pdf(["x"])[:-400], "a.pdf: is no .pdf file that can be read"),
        ("a.pdf", lambda: write_pdf(["secret"], password="x"), "a.pdf: is encrypted"),
        ("a.pdf", lambda: write_pdf([]), "a.pdf: has no text, only images. Run text recognition"),
        ("a.docx", b"no zip", "a.docx: is no .docx file that can be read"),
        ("a.docx", lambda: write_docx(("Standard", "x"))[:-30], "a.docx: is no .docx file that can be read"),
        ("a.docx", b"", "a.docx: is no .docx file that can be read"),
    ],
)
def test_a_damaged_document_is_refused_by_name(read_document, name, content, why):
    content = content() if callable(content) else content
    with pytest.raises(InputError, match=why):
        read_document(name, content)


def test_plain_text_has_paragraphs_and_no_markup(read_document):
    blocks = read_document(
        "a.txt",
        "# no heading\nsame paragraph\n \n\n\tindented  text\n\u3000\u3000第一段。\n第一段。\n\u3000\u3000第二段。\n",
    )
    assert [(block.line, block.text) for block in blocks] == [
        (1, "# no heading same paragraph"),
        (5, "indented text"),
        (6, "第一段。第一段。"),
        (8, "第二段。"),
    ]


def test_a_folder_is_read_without_hidden_files_and_says_what_it_does_not_read(tmp_path):
    for name in ("b.md", "a/c.TXT", "a/d.HTM", ".git/x.md", "a/.hidden/y.md", ".z.md", "e.rst", "f.rst", "Makefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    listed = [path.relative_to(tmp_path).as_posix() for path in documents.list_documents(tmp_path)]
    assert listed == ["a/c.TXT", "a/d.HTM", "b.md"]
    assert documents.count_unread(tmp_path) == {"": 1, ".rst": 2}


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "bad\udcff.md").write_text("text")
    with pytest.raises(InputError, match=r"is not UTF-8\. Rename it"):
        documents.list_documents(tmp_path)


def test_a_table_is_fitted_to_documents_too(tmp_path):
    (tmp_path / "a.md").write_text(
        "# A heading that is long enough for it\n\nЭто предложение годится для таблицы.\n\n    code()\n"
    )
    (tmp_path / "b.txt").write_text("这个句子足够长,可以用来训练静态表。")
    expected = ["Это предложение годится для таблицы.", "这个句子足够长,可以用来训练静态表。"]
    assert sorted(corpus.sample_texts(tmp_path, 9)) == expected
    assert corpus.sample_texts(tmp_path / "a.md", 9) == expected[:1]


def test_large_documents_are_quick(read_document):
    started = time.process_time()
    blocks = read_document("a.md", "## Part\n\nA paragraph with *some* text.\n\n" * 5000)
    assert len(blocks) == 10_000
    assert time.process_time() - started < 20
