"""Damaged files for fuzzing: valid ones with edits that know the format, as hypothesis strategies."""

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

DEEP = 1200  # more than Python's recursion limit
# What stands for another JSON value; the last ones are no JSON, but Python's parser takes them.
VALUES = [
    *("null", "true", "-1", "0", "1", "1.5", "1e999", "-1e999", "9" * 5000, str(2**63), str(2**64), "0.1e-400", '""'),
    *("[]", "{}", "[[]]", "[null]", '{"": null}'),
    *('"text"', '"1"', '"\\ud83d"', '"\\u0000"', '"\\n\\r\\t"', '"../../x"'),
    *('"/dev/null"', '"模型"', '"\u202e"', '"' + "x" * 5000 + '"'),
    *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP),
    *("NaN", "Infinity", "-Infinity", "tru", "'a'", "0x10", "01"),
]  # fmt: skip
# What is put between bytes, whatever the format. Nesting takes some parsers a second, so it is rare.
CHUNKS = [
    *(b"\0", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\n", b"\r", b'"', b"'", b","),
    *(b"\xe2\x80\xa8", b"\t", b"\\", b"\\ud83d", b"9" * 5000, b"-", b".", b"e", b" ", b"#"),
    *(b"---\n", b"<!--", b"```\n", b"<think>", b"&#x110000;"),
    *(b"!!python/object:os.system", b"&a [*a]", b"<<: *b", b"%s", b"\x1b[2J", b"\xff" * 8, b"PK\x03\x04", b"/../"),
] * 8 + [b"[" * DEEP, b"{" * DEEP, b"- " * DEEP, b"> " * DEEP, b"*" * DEEP, b"<div>" * DEEP]  # fmt: skip


def damaged(*valid: bytes, structured: bool = True) -> st.SearchStrategy[bytes]:
    """Return a strategy for valid files with one to three edits.

    Args:
        valid: whole files.
        structured: they are JSON, or JSON lines: two thirds of the edits change a value, a key or a row.
    """
    number = st.integers(0, 2**32 - 1)
    edits = st.lists(st.tuples(number, number, number), min_size=1, max_size=3)
    return st.builds(lambda file, chosen: _apply(file, chosen, structured=structured), st.sampled_from(valid), edits)


def damage(files: Sequence[bytes], chance: Random, *, structured: bool = True) -> bytes:
    """Return one file of `damaged` without hypothesis, whose record of all examples costs more than most parsers do."""
    edits = [tuple(chance.randrange(2**32) for _ in range(3)) for _ in range(chance.randint(1, 3))]
    return _apply(chance.choice(files), edits, structured=structured)


def _apply(file: bytes, edits: list[tuple[int, int, int]], *, structured: bool) -> bytes:
    for kind, place, what in edits:
        if structured and kind % 3:
            file = _edit_json(file, kind // 3, place, what)
        else:
            file = _edit_bytes(file, kind // 3, place, what)
    return file


def _edit_bytes(file: bytes, kind: int, place: int, what: int) -> bytes:
    at = place % (len(file) + 1)
    until = at + 1 + what % max(1, min(64, len(file) - at))
    edits = (
        lambda: file[:at] + bytes([what % 256]) + file[at + 1 :],
        lambda: file[:at] + (bytes([file[at] ^ 1 << what % 8]) if at < len(file) else b"") + file[at + 1 :],
        lambda: file[:at],
        lambda: file[:at] + file[until:],
        lambda: file[:until] + file[at:],
        lambda: file[:at] + CHUNKS[what % len(CHUNKS)] + file[at:],
        lambda: CHUNKS[what % len(CHUNKS)] + file,
        lambda: file + CHUNKS[what % len(CHUNKS)],
    )
    return edits[kind % len(edits)]()


def _edit_json(file: bytes, kind: int, place: int, what: int) -> bytes:
    """Edit one node of a JSON value, or of one line's; what is no JSON any more stays."""
    lines = file.split(b"\n")
    line = place % len(lines)
    for start in (slice(None), slice(line, line + 1)):  # the file as a whole, or one of its lines
        try:
            value = json.loads(b"\n".join(lines[start]))
        except (ValueError, RecursionError):
            continue
        edited = _edit_value(value, kind, place // len(lines), what)
        return b"\n".join([*lines[: start.start or 0], edited, *([] if start.start is None else lines[line + 1 :])])
    return _edit_bytes(file, kind, place, what)


def _edit_value(value: Any, kind: int, place: int, what: int) -> bytes:
    try:
        nodes = list(_iterate_nodes(value))
    except RecursionError:
        return json.dumps(None).encode()
    marker, text = "\u0001edited\u0001", VALUES[what % len(VALUES)]
    if not nodes or kind % 11 == 10:
        return text.encode("utf-8", "surrogatepass")
    parent, key = nodes[place % len(nodes)]
    old = parent[key]
    match kind % 5:
        case 0 | 1:
            parent[key] = marker
        case 2:
            del parent[key]
        case 3 if isinstance(parent, dict):
            parent[str(text)[:2000]] = parent.pop(key)
        case 3:
            parent.insert(key, old)
        case _ if isinstance(parent, dict):  # the same key twice
            parent[marker] = marker
            text = f"{json.dumps(old)}, {json.dumps(key)}: {text}"
        case _:
            parent.append(marker)
    try:
        dumped = json.dumps(value)
    except (RecursionError, ValueError):
        return text.encode("utf-8", "surrogatepass")
    quoted = json.dumps(marker)
    if isinstance(parent, dict) and marker in parent:
        dumped = dumped.replace(f"{quoted}: {quoted}", f"{json.dumps(key)}: {text}")
    return dumped.replace(quoted, text).encode("utf-8", "surrogatepass")


def _iterate_nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a JSON value as its parent and the key there."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(entries):
        yield value, key
        yield from _iterate_nodes(child)
