"""Documents as Word and PDF programs write them, small; and what is read of a document."""

import io
import warnings
import zipfile
from collections.abc import Callable
from xml.sax.saxutils import escape

import pytest

from stages.common.sources import documents
from stages.common.sources.documents import Block, BlockKind

TYPES = """<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/word/document.xml"
 ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"""
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
RELATIONS = """<?xml version="1.0"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1" Type="{type}" Target="{target}"/></Relationships>"""
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def write_docx(*paragraphs, table=()):
    """Return a Word document of (style, text) paragraphs and one table, its styles' keys as a German Word has them."""
    names = {"Titel": "Title", "berschrift1": "heading 1", "berschrift2": "heading 2", "Standard": "Normal"}
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
        for key, name in names.items()
    )
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{escape(text)}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    rows = "".join(
        "<w:tr>" + "".join(f"<w:tc><w:p><w:r><w:t>{cell}</w:t></w:r></w:p></w:tc>" for cell in row) + "</w:tr>"
        for row in table
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", TYPES)
        archive.writestr("_rels/.rels", RELATIONS.format(type=f"{RELATION}/officeDocument", target="word/document.xml"))
        archive.writestr(
            "word/_rels/document.xml.rels", RELATIONS.format(type=f"{RELATION}/styles", target="styles.xml")
        )
        archive.writestr("word/styles.xml", f"<w:styles {WORD}>{styles}</w:styles>")
        archive.writestr(
            "word/document.xml",
            f"<w:document {WORD}><w:body>{body}{f'<w:tbl>{rows}</w:tbl>' if rows else ''}</w:body></w:document>",
        )
    return file.getvalue()


def write_pdf(*pages, headings=(), password=None):
    """Return a PDF by matplotlib, each page given as lines; `headings` are its outline's (title, page's index)."""
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure
    from pypdf import PdfWriter

    file = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}), PdfPages(file) as book:
        for lines in pages:
            figure = Figure(figsize=(8, 6))
            for index, line in enumerate(lines):
                figure.text(0.05, 0.9 - 0.06 * index, line)
            book.savefig(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = PdfWriter(io.BytesIO(file.getvalue()))
        for title, page in headings:
            writer.add_outline_item(title=title, page_number=page)
        if password:
            writer.encrypt(password)
        writer.write(out := io.BytesIO())
    return out.getvalue()


def write_chinese_pdf(text):
    """Return a PDF whose font is none of its own: a viewer knows the characters by Adobe's tables."""
    stream = f"BT /F1 12 Tf 72 700 Td <{text.encode('utf-16-be').hex()}> Tj ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
        "<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UTF16-H/DescendantFonts[6 0 R]>>",
        "<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong-Light/FontDescriptor 7 0 R"
        "/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 4>>>>",
        "<</Type/FontDescriptor/FontName/STSong-Light/Flags 4/FontBBox[0 0 1000 1000]/ItalicAngle 0/Ascent 800"
        "/Descent -200/CapHeight 700/StemV 80>>",
    ]
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF"
    return f"{body}xref\n0 {size}\n0000000000 65535 f \n{table}{end}".encode()


def outline(blocks: list[Block]) -> list[tuple[BlockKind, int, str]]:
    """Return each block's kind, level and text."""
    return [(block.kind, block.level, block.text) for block in blocks]


def texts(blocks: list[Block], kind: BlockKind = BlockKind.PROSE) -> list[str]:
    """Return the texts of the blocks of one kind."""
    return [block.text for block in blocks if block.kind is kind]


@pytest.fixture
def read_document(tmp_path) -> Callable[[str, str | bytes], list[Block]]:
    """Return a function that writes a document and reads it."""

    def read(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return documents.read_document(path)

    return read
