"""`embed-foundry encode`: as many vectors as lines, in their order, by one rule of what a line is."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import open_bundle

CONSOLE = Path(sys.executable).with_name("embed-foundry")


@pytest.fixture
def encode(make_release, run_command, monkeypatch) -> Callable[[bytes], tuple[int, np.ndarray, str]]:
    """Return a function that encodes bytes of standard input: exit code, vectors, stderr."""

    def run(data: bytes) -> tuple[int, np.ndarray, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code, out, err = run_command("encode", make_release(1, "static"))
        return code, np.array([json.loads(line) for line in out.splitlines()]), err

    return run


LINES: dict[str, tuple[bytes, list[str]]] = {
    "line feeds": (b"one\ntwo\n", ["one", "two"]),
    "of Windows": (b"one\r\ntwo\r\n", ["one", "two"]),
    "both": (b"one\r\ntwo\nthree\r\n", ["one", "two", "three"]),
    "no end": (b"one\ntwo", ["one", "two"]),
    "empty lines": (b"\none\n\r\n\ntwo\n\n", ["", "one", "", "", "two", ""]),
    "nothing": (b"", []),
    "one empty line": (b"\n", [""]),
    "a carriage return inside": (b"one\rtwo\nthree\r", ["one\rtwo", "three"]),
    "two carriage returns": (b"one\r\r\n", ["one\r"]),
    "other separators": ("a\u2028b\u2029c\u0085d\fe\vf\x1cg\n".encode(), ["a\u2028b\u2029c\u0085d\fe\vf\x1cg"]),
    "white space stays": (b"  one\t \n", ["  one\t "]),
    "a byte order mark": ("\ufeffone\ntwo\n".encode(), ["one", "two"]),
    "a mark inside": ("one\n\ufefftwo\n".encode(), ["one", "\ufefftwo"]),
    "many scripts": ("Über\nприме́р\n例文\n🫖\u200d\n".encode(), ["Über", "приме́р", "例文", "🫖\u200d"]),
}


@pytest.mark.filterwarnings("ignore::embed_foundry.UnknownTextWarning")
@pytest.mark.parametrize("case", LINES)
def test_a_vector_for_each_line_in_its_order(encode, make_release, case):
    data, texts = LINES[case]
    code, vectors, _ = encode(data)
    assert (code, len(vectors)) == (0, len(texts))
    if texts:
        expected = open_bundle(make_release(1, "static")).encode(texts)
        np.testing.assert_allclose(vectors, expected, atol=1e-7)


REFUSED = {
    "UTF-16 of Windows": (
        "one\ntwo".encode("utf-16"),
        "standard input is UTF-16; expected UTF-8. Next: iconv -f UTF-16",
    ),
    "UTF-16, big end first": (b"\xfe\xff\x00o", "standard input is UTF-16"),
    "UTF-32": ("one".encode("utf-32"), "standard input is UTF-32"),
    "UTF-16 without a mark": ("Eins\nzwei".encode("utf-16-le"), "line 1 of standard input holds a zero byte"),
    "a zero byte": (b"one\nt\0wo\n", "line 2 of standard input holds a zero byte"),
    "Latin-1": ("eins\nzwei\nÜber\n".encode("latin-1"), "line 3 of standard input is not UTF-8 (byte 1 is 0xdc)"),
    "Shift JIS": ("one\n例文\n".encode("shift-jis"), "line 2 of standard input is not UTF-8"),
    "cut": ("例文".encode()[:-1], "line 1 of standard input is not UTF-8"),
    "a surrogate": (b"one\n\xed\xa0\x80\n", "line 2 of standard input is not UTF-8"),
    "overlong": (b"\xc0\xaf\n", "line 1 of standard input is not UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_encodings_are_refused_by_line_before_anything_is_printed(encode, case):
    data, words = REFUSED[case]
    code, vectors, err = encode(data)
    assert (code, vectors.size) == (2, 0)
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_closed_standard_input_is_named(make_release):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", CONSOLE, "encode", make_release(1, "static")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "error: standard input is closed. Give it the texts, one a line.\n")
