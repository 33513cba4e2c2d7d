"""A user's bytes: every encoding that a file shows is read, every other one is refused by name, at every door."""

import json

import pytest
from embed_foundry import InputError

from stages.common.sources import corpus, documents, text_encoding
from stages.data import user_folder
from stages.finetune import triplet_files

RUSSIAN = "Хранилище держит каждый объект, пока его не удалят."
CHINESE = "存储桶保存每一个对象,直到有人删除它。请先打开版本控制。"
JAPANESE = "バケットは、誰かが削除するまで、すべてのオブジェクトを保持します。"
LATIN = "Größe und Übersicht der Dateien, naïve café."


def read(tmp_path, content, name="a.txt"):
    (tmp_path / name).write_bytes(content)
    return " ".join(block.text for block in documents.read_document(tmp_path / name))


@pytest.mark.parametrize("text", [RUSSIAN, CHINESE, JAPANESE, LATIN, "ASCII alone", "👍🏽 emoji"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_has_a_byte_order_mark_or_is_utf_8_is_read(tmp_path, text, encoding):
    assert read(tmp_path, text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [RUSSIAN, LATIN, "ASCII alone"])
def test_utf_16_without_a_mark_is_known_by_its_zeros(tmp_path, text, encoding):
    assert read(tmp_path, text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("text", "encoding", "guess"),
    [
        (RUSSIAN * 4, "cp1251", "cp1251"),
        (RUSSIAN * 4, "koi8-r", "koi8_r"),
        (CHINESE * 4, "gb18030", "gb"),
        (CHINESE.replace("请", "") * 4, "gbk", "gb"),
        (JAPANESE * 4, "shift_jis", "(shift_jis|cp932)"),
        (JAPANESE * 4, "euc_jp", "euc_j"),
        (JAPANESE, "iso2022_jp", "iso2022_jp"),
        (LATIN, "latin-1", "looks like"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_what_shows_no_encoding_is_refused_by_name_and_never_garbled(tmp_path, text, encoding, guess, name):
    with pytest.raises(InputError, match=rf"{name}: is not UTF-8 .*{guess}.* Save it as UTF-8"):
        read(tmp_path, text.encode(encoding), name)


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">', "koi8-r"),
        ("<META CHARSET=windows-1251>", "cp1251"),
        ('<?xml version="1.0" encoding="windows-1251"?>', "cp1251"),
        ('<meta charset="windows-1251">', "utf-8"),  # converted, but not its declaration
        ('<meta charset="windows-1251">', "utf-16"),
    ],
)
def test_a_page_is_read_as_it_declares(tmp_path, declaration, encoding):
    assert read(tmp_path, f"{declaration}<p>{RUSSIAN}".encode(encoding), "a.html") == RUSSIAN


@pytest.mark.parametrize(("label", "encoding"), [("gb2312", "gbk"), ("iso-2022-jp", "iso2022_jp"), ("sjis", "cp932")])
def test_labels_mean_what_browsers_take_them_for(tmp_path, label, encoding):
    text = JAPANESE if encoding != "gbk" else CHINESE
    assert read(tmp_path, f'<meta charset="{label}"><p>{text}'.encode(encoding), "a.htm") == text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            "a.txt: byte 8 is zero, so it is UTF-16 without a byte order mark, or no text",
        ),
        (b"a longer text with one zero\0 byte in it", "a.txt: byte 27 is zero"),
        (CHINESE.encode("utf-16-le"), r"a.txt: byte \d+ is zero"),
        ("一二".encode("utf-16-le"), "a.txt: byte 0 is zero"),
        ("一二".encode("utf-16-be"), "a.txt: byte 1 is zero"),
        ("половина".encode()[:-1], "is not UTF-8 .unexpected end of data at byte 14"),
        (b"\xff\xfea\0b", "byte order mark says utf-16-le, but it is not"),
        (b"\xff\xfe\x00\xd8", "byte order mark says utf-16-le, but it is not"),
        (b"\xef\xbb\xbf\xff", "byte order mark says utf-8, but it is not"),
    ],
)
def test_a_damaged_text_is_refused_with_the_place(tmp_path, content, why):
    with pytest.raises(InputError, match=why):
        read(tmp_path, content)


def test_a_page_that_is_not_what_it_declares_is_refused(tmp_path):
    with pytest.raises(InputError, match="it declares cp949, but it is not"):
        read(tmp_path, b'<meta charset="euc-kr"><p>\xff\xff\xff', "a.html")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        text_encoding.read_text(tmp_path / "none.txt")


def test_tables_follow_the_same_rule_at_every_door(tmp_path):
    """What Excel saves as Unicode text, and what it saves in Russia."""
    pair = {"anchor": "Что хранится?", "positive": RUSSIAN}
    lines = json.dumps(pair, ensure_ascii=False) + "\n"
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "mine.jsonl").write_bytes(lines.encode(encoding))
        assert triplet_files.read_triplets(tmp_path / "mine.jsonl")[0].positive == RUSSIAN
        (tmp_path / "mine.csv").write_bytes(f'text\r\n"{RUSSIAN}"\r\n'.encode(encoding))
        assert corpus.sample_texts(tmp_path / "mine.csv", 9) == [RUSSIAN]
    (tmp_path / "mine.csv").write_bytes(f'text\r\n"{RUSSIAN}"\r\n'.encode("cp1251"))
    (tmp_path / "mine.jsonl").write_bytes(lines.encode("cp1251"))
    (tmp_path / "qrels.tsv").write_bytes("вопрос\tответ\t1\n".encode("cp1251"))
    for door, path in (
        (lambda path: corpus.sample_texts(path, 9), tmp_path / "mine.csv"),
        (triplet_files.read_triplets, tmp_path / "mine.jsonl"),
        (user_folder._read_qrels, tmp_path / "qrels.tsv"),
    ):
        with pytest.raises(InputError, match=rf"{path.name}: is not UTF-8"):
            door(path)


def test_a_comma_without_quotes_cuts_no_text(tmp_path):
    (tmp_path / "mine.csv").write_text(f"text\n{RUSSIAN}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine.csv, row 1: has .* commas"):
        corpus.sample_texts(tmp_path / "mine.csv", 9)
