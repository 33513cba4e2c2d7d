"""Sentences and lengths in any script, and the doors that use them: fit.file and the suite's texts."""

import json
import time

import pytest
from embed_foundry import InputError

from stages.common.sources import corpus
from stages.common.sources.sentences import cut_text, join_lines, measure_width, split_into_sentences

SENTENCES = {
    "Russian": [
        "Это первое предложение, т. е. начало.",
        "А это второе!",
        "В 2020 г. было третье?",
        "«Да», — ответил он.",
    ],
    "Chinese": ["这是第一句话。", "这是第二句话!", "第三句呢?", "“真的吗?”", "版本3.14已发布。"],
    "Chinese, full-width": ["这是第一句话。", "这是第二句话！", "第三句呢？", "「真的吗？」", "她问。"],
    "Japanese": ["これは最初の文です。", "次の文です！", "本当ですか？", "「はい。」", "終わり。"],
    "Korean": ["이것은 첫 번째 문장입니다.", "두 번째 문장입니까?", "네!"],
    "Hindi": ["यह पहला वाक्य है।", "यह दूसरा वाक्य है।", "क्या यह तीसरा है?"],
    "Arabic": ["هذه هي الجملة الأولى.", "هل هذه الثانية؟", "نعم!"],
    "Urdu": ["یہ پہلا جملہ ہے۔", "یہ دوسرا جملہ ہے۔"],
    "Hebrew": ["זה המשפט הראשון.", "האם זה השני?", "כן!"],
    "Greek": ["Αυτή είναι η πρώτη.", "Είναι η δεύτερη;", "Ναι."],
    "Armenian": ["Սա առաջինն է։", "Սա երկրորդն է։"],
    "Amharic": ["ይህ የመጀመሪያው ነው።", "ይህ ሁለተኛው ነው።"],
    "Burmese": ["ဒါက ပထမစာကြောင်း။", "ဒါက ဒုတိယ။"],
    "Khmer": ["នេះជាប្រយោគទីមួយ។", "នេះជាប្រយោគទីពីរ។"],
    "German": ["Größe zählt nicht.", "„Ja.“", "Er ging um 10.30 Uhr."],
    "English": ["Mr. Smith met Mrs. Jones at example.com.", "It costs 3.14 dollars, e.g. today.", "Really?", "Yes!"],
    "mixed": ["使用 Python 3.11 运行。", "See the docs.", "然后 run make。"],
}
SPACELESS = ("Chinese", "Japanese", "mixed")


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_end_where_the_script_ends_them(language):
    sentences = SENTENCES[language]
    for joint in ("" if language.startswith(("Chinese", "Japanese")) else " ", "\n", "  \r\n"):
        assert split_into_sentences(joint.join(sentences)) == sentences


def test_thai_without_full_stops_is_split_at_spaces_into_pieces_that_say_something():
    clauses = ["ที่เก็บข้อมูลเก็บวัตถุทุกชิ้นไว้", "จนกว่าจะมีคนลบออกจากระบบนี้ไป", "ครับ", "กรุณาเปิดการควบคุมเวอร์ชันก่อนใช้งาน"]
    assert split_into_sentences(" ".join(clauses)) == [clauses[0], " ".join(clauses[1:3]), clauses[3]]
    lao = "ຂໍ້ຄວາມນີ້ແມ່ນປະໂຫຍກທໍາອິດຂອງພວກເຮົາ ແລະນີ້ແມ່ນປະໂຫຍກທີສອງຂອງພວກເຮົາ"
    assert split_into_sentences(lao) == lao.split(" ")


def test_thai_without_spaces_is_cut_at_words():
    text = "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 40
    pieces = split_into_sentences(text)
    assert "".join(pieces) == text
    assert all(30 <= measure_width(piece) <= 300 for piece in pieces[:-1])
    assert all(piece.startswith(("ภาษา", "ไทย", "ไม่มี", "ช่อง", "ว่าง", "ระหว่าง", "คำ")) for piece in pieces)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("naïve", 5),
        ("Россия", 6),
        ("存储桶", 6),
        ("ｆｕｌｌ", 8),
        ("カナ", 4),
        ("ｶﾅ", 2),
        ("한국어", 6),
        ("สวัสดี", 6),
        ("नमस्ते", 6),
        ("", 0),
    ],
)
def test_a_wide_character_counts_two(text, columns):
    assert measure_width(text) == columns


@pytest.mark.parametrize("text", ["", " ", "\u3000", "\n\n", "\xa0"])
def test_no_text_has_no_sentence(text):
    assert split_into_sentences(text) == []
    assert cut_text(text, 10) == []


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("一行\n二行。\n三行", "一行二行。三行"),
        ("カタ\nカナ", "カタカナ"),
        ("한국\n어", "한국 어"),
        ("an end\nof line", "an end of line"),
        ("中文\nEnglish\n中文", "中文 English 中文"),
        ("a\xa0b\u3000c\t d", "a b c d"),
        ("Daten\xadbank", "Datenbank"),
    ],
)
def test_ends_of_lines_vanish_between_han_and_kana_alone(text, joined):
    assert join_lines(text) == joined


def test_a_text_without_any_place_to_cut_is_cut_all_the_same():
    pieces = cut_text("x" * 2500, 900)
    assert "".join(pieces) == "x" * 2500
    assert max(map(len, pieces)) <= 900


def test_a_long_text_is_quick():
    started = time.process_time()
    assert len(split_into_sentences("这是一句话。And one more. " * 20_000)) == 40_000
    assert time.process_time() - started < 5


@pytest.mark.parametrize("language", ["Russian", "Chinese", "Japanese", "Hindi", "Thai", "Arabic"])
def test_a_table_is_fitted_to_texts_of_any_script(tmp_path, language):
    """Of 13 to 150 characters where characters are wide, as of 25 to 300 elsewhere."""
    unit = {
        "Russian": "Хранилище держит каждый объект, пока его не удалят.",
        "Chinese": "存储桶保存每一个对象,直到有人删除它为止。",
        "Japanese": "バケットは誰かが削除するまで保持します。",
        "Hindi": "भंडार हर वस्तु को तब तक रखता है जब तक उसे हटाया न जाए।",
        "Thai": "ที่เก็บข้อมูลเก็บวัตถุทุกชิ้นไว้จนกว่าจะมีคนลบ",
        "Arabic": "تحتفظ الحاوية بكل كائن حتى يحذفه شخص ما.",
    }[language]
    short = {"Chinese": "太短了。", "Japanese": "短い。", "Thai": ""}.get(language, "1. 2. 3.")
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"text": f"{unit} {short}\n{unit}"}, ensure_ascii=False), encoding="utf-8")
    assert corpus.sample_texts(path, 100) == [unit]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"text": 7}, "row 2: text is 7, expected text"),
        ({"text": ["a"]}, r"row 2: text is \['a'\], expected text"),
        ({"text": "half an emoji \ud83d"}, "row 2: text holds half of a character"),
        ({"text": "a\0b"}, "row 2: text holds a NUL character at 2"),
    ],
)
def test_a_row_that_is_no_text_is_refused(tmp_path, row, why):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps({'text': 'A first sentence of some length.'})}\n{json.dumps(row)}\n")
    with pytest.raises(InputError, match=rf"mine.jsonl, {why}"):
        corpus.sample_texts(path, 9)
