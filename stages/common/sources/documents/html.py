"""HTML as blocks, parsed by the HTML standard's own algorithm (tinyhtml5): what a reader of the page sees."""

import re
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from stages.common.sources.documents.blocks import Block, BlockKind, put_title_above
from stages.common.sources.sentences import join_lines

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# The attribute in which another reader says from which line of its file an element comes.
LINE = "data-source-line"
# The first bytes of a page, where the HTML standard wants its encoding.
_DECLARED_WITHIN = 1024
_XML_ENCODING = re.compile(rb"""<\?xml[^>]{0,100}encoding=["']([\w.:-]+)["']""")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "dir", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "html", "legend", "li",
    "main", "menu", "ol", "p", "pre", "search", "section", "summary", "table", "ul", *_HEADINGS,
}  # fmt: skip
# What is not text, or not the page's own: navigation, controls, pronunciations above characters.
_HIDDEN = {
    "audio", "button", "canvas", "datalist", "head", "iframe", "input", "nav", "noembed", "noframes", "noscript",
    "object", "rp", "rt", "script", "select", "style", "template", "textarea", "title", "video",
    "{http://www.w3.org/2000/svg}svg",
}  # fmt: skip
_PREFORMATTED = {"pre", "listing", "plaintext", "xmp"}
_CELLS = {"td", "th"}


class Step(Enum):
    """What is met on the way through a tree."""

    OPEN = "open"
    TEXT = "text"
    CLOSE = "close"


def read_blocks(content: str) -> list[Block]:
    """Return the blocks of a page below its title: those of its main element, if that has any."""
    import tinyhtml5

    root = tinyhtml5.parse(content, namespace_html_elements=False)
    title = root.find(".//title")
    main = next((element for element in root.iter() if element.tag == "main" or element.get("role") == "main"), root)
    collector = _Collector()
    collector.collect(main)
    if not collector.blocks:  # a page that scripts move into its main element
        collector.collect(root)
    return put_title_above(join_lines("".join(title.itertext())) if title is not None else "", collector.blocks)


def find_declared_encoding(content: bytes) -> str | None:
    """Return Python's name of the encoding that a page's `<meta>` or XML declaration names, by the HTML standard."""
    from tinyhtml5.inputstream import EncodingParser
    from webencodings import lookup

    start = content[:_DECLARED_WITHIN]
    encoding = EncodingParser(start).get_encoding()
    if encoding is None and (declaration := _XML_ENCODING.match(start)):
        encoding = lookup(declaration[1].decode())
    name: str | None = encoding.codec_info.name if encoding else None
    return name


class _Collector:
    """Collects blocks on the way through a tree.

    Attributes:
        blocks: those that have ended.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._parts: list[str] = []
        self._first_line: int | None = None
        self._line: int | None = None
        # The element that keeps its text together: a heading, preformatted text or a table.
        self._holder: Element | None = None

    def collect(self, root: "Element") -> None:
        """Collect an element's blocks."""
        for step, element, text in _walk(root):
            if step is Step.TEXT:
                self._add(text)
            elif step is Step.OPEN:
                self._open(element)
            else:
                self._close(element)
        self._end_block(BlockKind.PROSE)

    def _open(self, element: "Element") -> None:
        if (line := element.get(LINE, "")).isdecimal() and len(line) < 10:
            self._line = int(line)
        tag = element.tag
        if tag == "br":
            self._parts.append("\n" if self._holds(_PREFORMATTED) else " ")
        elif tag == "img":
            self._add(f" {element.get('alt', '')} ")
        elif self._holder is not None:
            if tag == "tr":
                self._parts.append("\n")
            elif tag in _CELLS:
                self._parts.append(" | ")
            elif tag in _BLOCKS:
                self._parts.append(" ")
        elif tag in _BLOCKS or tag in _PREFORMATTED:
            self._end_block(BlockKind.PROSE)
            if tag in _HEADINGS or tag in _PREFORMATTED or _holds_data(element):
                self._holder = element

    def _close(self, element: "Element") -> None:
        if element is self._holder:
            tag = element.tag
            kind = BlockKind.HEADING if tag in _HEADINGS else BlockKind.TABLE if tag == "table" else BlockKind.CODE
            self._end_block(kind, _HEADINGS.get(tag, 0))
            self._holder = None
        elif self._holder is None and (element.tag in _BLOCKS or element.tag in _PREFORMATTED):
            self._end_block(BlockKind.PROSE)

    def _add(self, text: str) -> None:
        if self._first_line is None and text.strip():
            self._first_line = self._line
        if self._holds({"table"}):
            text = text.replace("\n", " ")
        self._parts.append(text)

    def _holds(self, tags: set[str]) -> bool:
        return self._holder is not None and self._holder.tag in tags

    def _end_block(self, kind: BlockKind, level: int = 0) -> None:
        text = "".join(self._parts)
        if kind is BlockKind.CODE:
            text = text.strip("\n").rstrip()
        elif kind is BlockKind.TABLE:
            rows = (" ".join(row.split()).strip("| ") for row in text.split("\n"))
            text = "\n".join(row for row in rows if row)
        else:
            text = join_lines(text)
        if text:
            self.blocks.append(Block(kind, text, level, self._first_line))
        self._parts, self._first_line = [], None


def _walk(root: "Element") -> Iterator[tuple[Step, "Element", str]]:
    """Yield the steps through a tree, whatever its depth, without what a reader does not see."""
    yield Step.OPEN, root, ""
    yield Step.TEXT, root, root.text or ""
    stack = [(root, iter(root))]
    while stack:
        element, children = stack[-1]
        if (child := next(children, None)) is None:
            stack.pop()
            yield Step.CLOSE, element, ""
            if stack:
                yield Step.TEXT, element, element.tail or ""
        elif _is_hidden(child):
            yield Step.TEXT, child, child.tail or ""
        else:
            yield Step.OPEN, child, ""
            yield Step.TEXT, child, child.text or ""
            stack.append((child, iter(child)))


def _is_hidden(element: "Element") -> bool:
    if not isinstance(element.tag, str) or element.tag in _HIDDEN:  # a comment's tag is a function
        return True
    if "hidden" in element.attrib or element.get("aria-hidden") == "true" or element.get("role") == "navigation":
        return True
    if element.tag == "sup":  # a footnote's number
        return len(element) == 1 and not (element.text or "").strip() and _is_local_link(element[0])
    # The sign behind a heading that links to itself.
    return _is_local_link(element) and not any(character.isalnum() for character in "".join(element.itertext()))


def _is_local_link(element: "Element") -> bool:
    return element.tag == "a" and element.get("href", "").startswith("#")


def _holds_data(element: "Element") -> bool:
    """Return whether an element is a table of data; one with headings or tables inside only arranges the page."""
    if element.tag != "table":
        return False
    return not any(inner.tag in _HEADINGS or inner.tag == "table" for inner in element.iter() if inner is not element)
