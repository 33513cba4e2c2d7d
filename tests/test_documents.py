"""A user's documents in every format: headings, prose, code and tables as a reader sees them, and where they stand."""

import time

import pytest
from embed_foundry import InputError

from stages.common.sources import corpus, documents
from stages.common.sources.documents import BlockKind
from support.sample_documents import write_chinese_pdf, write_docx, write_pdf

HEADING, PROSE, CODE, TABLE = BlockKind.HEADING, BlockKind.PROSE, BlockKind.CODE, BlockKind.TABLE


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a document of one format."""

    def read(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return documents.read_document(path)

    return read


def outline(blocks):
    return [(block.kind, block.level, block.text) for block in blocks]


def texts(blocks, kind=PROSE):
    return [block.text for block in blocks if block.kind is kind]


MARKDOWN = """Intro of two
lines. [link](http://x "title") ![a diagram](i.png) `code` &amp; <b>bold</b>

Setext, first level
===

Second level
---

~~~sh
# a comment
run
~~~

```
# another
```

    # indented

- item one
  - nested *two*

    its second paragraph
  1. numbered
- [ ] task

> # Quoted heading
> quoted
lazily

| a | b |
|---|---|
| 1 | x \\| y |

<!-- # no heading -->
<details><summary>More</summary>

Folded *text*

</details>

<h3 align="center">Centred<br>heading</h3>
<pre>
 kept
   as it is
</pre>

# Closed heading ##
#no heading
***

[ref]: http://example.com "Not a text"
See [ref].
"""


def test_markdown_is_what_commonmark_says(read):
    blocks = read("a.md", MARKDOWN)
    assert outline(blocks) == [
        (PROSE, 0, "Intro of two lines. link a diagram code & bold"),
        (HEADING, 1, "Setext, first level"),
        (HEADING, 2, "Second level"),
        (CODE, 0, "# a comment\nrun"),
        (CODE, 0, "# another"),
        (CODE, 0, "# indented"),
        (PROSE, 0, "item one"),
        (PROSE, 0, "nested two"),
        (PROSE, 0, "its second paragraph"),
        (PROSE, 0, "numbered"),
        (PROSE, 0, "[ ] task"),
        (HEADING, 1, "Quoted heading"),
        (PROSE, 0, "quoted lazily"),
        (TABLE, 0, "a | b\n1 | x | y"),
        (PROSE, 0, "More"),
        (PROSE, 0, "Folded text"),
        (HEADING, 3, "Centred heading"),
        (CODE, 0, " kept\n   as it is"),
        (HEADING, 1, "Closed heading"),
        (PROSE, 0, "#no heading"),
        (PROSE, 0, "See ref."),
    ]
    lines = MARKDOWN.split("\n")
    places = {block.text: lines[block.line - 1] for block in blocks}
    assert places["Second level"] == "Second level"
    assert places["# a comment\nrun"] == "~~~sh"
    assert places["nested two"] == "  - nested *two*"
    assert places["See ref."] == "See [ref]."
    assert places["Folded text"] == "Folded *text*"


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_ends_of_lines_are_all_the_same(read, ends):
    assert read("a.md", MARKDOWN.replace("\n", ends)) == read("b.md", MARKDOWN)


@pytest.mark.parametrize(
    "front",
    [
        '---\ntitle: "Guide: one"\ntags: [a]\n---\n',
        "---\ntitle: 'Guide: one'\ndate: 2020-01-31\n...\n",
        '+++\ntitle = "Guide: one"\n[extra]\nx = 1\n+++\n',
        '{\n"title": "Guide: one"\n}\n',
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_front_matter_is_no_text_and_its_title_is_the_documents(read, front, ends):
    blocks = read("a.md", f"{front}\nText.\n\n## Part\n".replace("\n", ends))
    assert outline(blocks) == [(HEADING, 1, "Guide: one"), (PROSE, 0, "Text."), (HEADING, 2, "Part")]
    assert blocks[1].line == front.count("\n") + 2
    below = read("a.md", f"{front}\n# Its own\n\nText.".replace("\n", ends))
    assert outline(below) == [(HEADING, 1, "Its own"), (PROSE, 0, "Text.")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("---\ntitle: a: b\n---\nText.", ["Text."]),  # broken, as people write it
        ("---\ndate: 2020-02-45\n---\nText.", ["Text."]),
        ("---\n# a comment alone\n---\nText.", ["Text."]),
        ("---\n---\nText.", ["Text."]),
        ("+++\nbroken =\n+++\nText.", ["Text."]),
        ("---\nNever closed.\n\nText.", ["Never closed.", "Text."]),
        ("{\n broken\n}\nText.", ["{ broken } Text."]),
        ("---\ntitle: [1, 2]\n---\nText.", ["Text."]),
        ("---\nx: &a [*a]\n---\nText.", ["Text."]),
        ("Text.\n\n---\ntitle: late\n---\n", ["Text."]),
    ],
)
def test_front_matter_that_is_broken_or_none(read, content, expected):
    assert texts(read("a.md", content)) == expected


def test_a_rule_above_a_heading_is_no_front_matter(read):
    assert outline(read("a.md", "---\nA heading\n---\nText.")) == [(HEADING, 2, "A heading"), (PROSE, 0, "Text.")]


def test_nested_lists_and_quotes_are_read_to_their_end(read):
    depth = 40
    nested = "\n".join(f"{'  ' * level}- level {level}" for level in range(depth))
    assert texts(read("a.md", nested)) == [f"level {level}" for level in range(depth)]
    assert texts(read("b.md", "> " * depth + "deep")) == ["deep"]


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


def test_html_is_what_a_reader_of_the_page_sees(read):
    assert outline(read("a.html", PAGE)) == [
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
def test_broken_html_is_read_as_browsers_do(read, content, expected):
    assert texts(read("a.html", content)) == expected


def test_word_documents_have_headings_whatever_their_language(read):
    content = write_docx(
        ("Titel", "Handbuch"),
        ("berschrift1", "Speicher & <Ablage>"),
        ("Standard", "Ein Absatz über Größe."),
        ("berschrift2", "Versionen"),
        ("Standard", "第二段。"),
        table=[("a", "b"), ("1", "2")],
    )
    assert outline(read("a.docx", content)) == [
        (HEADING, 1, "Speicher & <Ablage>"),
        (PROSE, 0, "Ein Absatz über Größe."),
        (HEADING, 2, "Versionen"),
        (PROSE, 0, "第二段。"),
        (TABLE, 0, "a | b\n1 | 2"),
    ]
    assert outline(read("b.docx", write_docx(("Titel", "Handbuch"), ("Standard", "Text."))))[0] == (
        HEADING,
        1,
        "Handbuch",
    )


def test_pdfs_have_pages_and_the_headings_of_their_outline(read):
    first = ["Хранилище объектов", "Версии хранят каждый объект.", "Вторая строка того же абзаца."]
    second = ["Удаление", "Объект можно удалить."]
    content = write_pdf(first, second, headings=[(first[0], 0), (second[0], 1)])
    blocks = read("a.pdf", content)
    assert [(block.kind, block.page, block.text) for block in blocks] == [
        (HEADING, 1, first[0]),
        (PROSE, 1, " ".join(first[1:])),
        (HEADING, 2, second[0]),
        (PROSE, 2, second[1]),
    ]
    assert texts(read("b.pdf", write_chinese_pdf("存储桶保存对象。直到删除。"))) == ["存储桶保存对象。直到删除。"]


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
def test_a_damaged_document_is_refused_by_name(read, name, content, why):
    content = content() if callable(content) else content
    with pytest.raises(InputError, match=why):
        read(name, content)


def test_plain_text_has_paragraphs_and_no_markup(read):
    blocks = read(
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


def test_large_documents_are_quick(read):
    started = time.process_time()
    blocks = read("a.md", "## Part\n\nA paragraph with *some* text.\n\n" * 5000)
    assert len(blocks) == 10_000
    assert time.process_time() - started < 20
