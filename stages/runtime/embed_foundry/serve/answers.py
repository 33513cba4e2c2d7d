"""How every door writes an answer: JSON, and the headers that say what a client must know."""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
import orjson
from fastapi import Response
from numpy.typing import NDArray

from .requests import EmbedAnswer, Timings

# Numbers that are written at once: about a millisecond, for which no other request is served.
BLOCK = 16_384
# Positions that a header names. Proxies and clients refuse header lines over 8 KB.
NAMED_POSITIONS = 100
LONGEST_HEADER = 1000


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON; numpy arrays in `content` are written as lists of numbers."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


async def dump_rows(rows: NDArray[np.generic] | Sequence[object], width: int) -> orjson.Fragment:
    """Return a JSON list of rows, written block by block, so that a large answer does not hold up others.

    Args:
        rows: an array [n, d], or anything that JSON can hold, one a vector.
        width: numbers in a row.
    """
    step = max(1, BLOCK // max(1, width))
    blocks = []
    for start in range(0, len(rows), step):
        if start:
            await asyncio.sleep(0)
        blocks.append(orjson.dumps(rows[start : start + step], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
    return orjson.Fragment(b"[" + b",".join(blocks) + b"]")


def answer_headers(answer: EmbedAnswer) -> dict[str, str]:
    """Return what every answer says beside its dialect: who computed it, in which space, what was truncated."""
    headers = {
        "X-Space-Id": answer.space_id,
        "X-Variant": answer.variant,
        "X-Release": answer.release,
        "Server-Timing": server_timing(answer.timings),
    }
    if answer.truncated:
        headers["X-Truncated"] = name_positions(answer.truncated)
    if answer.unknown:
        headers["X-Unknown"] = name_positions(answer.unknown)
    if answer.cached:
        headers["X-Cached"] = str(answer.cached)
    if answer.skipped:
        headers["X-Fallback"] = header_text("; ".join(answer.skipped))
    return headers


def name_positions(positions: Sequence[int]) -> str:
    """Return the positions of texts for a header: "0,3,7", and after the first hundred how many more: "…,99,+12"."""
    more = len(positions) - NAMED_POSITIONS
    return ",".join([*map(str, positions[:NAMED_POSITIONS]), *([f"+{more}"] if more > 0 else [])])


def header_text(text: str) -> str:
    """Return a message as a header can hold it: one line of ASCII, shortened."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode("ascii")[:LONGEST_HEADER]


def server_timing(timings: Timings) -> str:
    """Return where the time went, in milliseconds, as browsers' developer tools read it (W3C Server Timing)."""
    parts = {
        "tokenize": timings.tokenize_s,
        "queue": timings.queue_s,
        "load": timings.load_s,
        "compute": timings.compute_s,
        "total": timings.total_s,
    }
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts.items())
