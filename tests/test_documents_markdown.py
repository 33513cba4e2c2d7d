"""Markdown by CommonMark's rules, and the front matter above it."""

import pytest

from stages.common.sources.documents import BlockKind
from support.sample_documents import outline, texts

HEADING, PROSE, CODE, TABLE = BlockKind


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


def test_markdown_is_what_commonmark_says(read_document):
    blocks = read_document("a.md", MARKDOWN)
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
def test_ends_of_lines_are_all_the_same(read_document, ends):
    assert read_document("a.md", MARKDOWN.replace("\n", ends)) == read_document("b.md", MARKDOWN)


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
def test_front_matter_is_no_text_and_its_title_is_the_documents(read_document, front, ends):
    blocks = read_document("a.md", f"{front}\nText.\n\n## Part\n".replace("\n", ends))
    assert outline(blocks) == [(HEADING, 1, "Guide: one"), (PROSE, 0, "Text."), (HEADING, 2, "Part")]
    assert blocks[1].line == front.count("\n") + 2
    below = read_document("a.md", f"{front}\n# Its own\n\nText.".replace("\n", ends))
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
def test_front_matter_that_is_broken_or_none(read_document, content, expected):
    assert texts(read_document("a.md", content)) == expected


def test_a_rule_above_a_heading_is_no_front_matter(read_document):
    assert outline(read_document("a.md", "---\nA heading\n---\nText.")) == [
        (HEADING, 2, "A heading"),
        (PROSE, 0, "Text."),
    ]


def test_nested_lists_and_quotes_are_read_to_their_end(read_document):
    depth = 40
    nested = "\n".join(f"{'  ' * level}- level {level}" for level in range(depth))
    assert texts(read_document("a.md", nested)) == [f"level {level}" for level in range(depth)]
    assert texts(read_document("b.md", "> " * depth + "deep")) == ["deep"]
