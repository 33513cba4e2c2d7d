"""How every door writes an answer: JSON, and the headers that say what a client must know."""

from collections.abc import Mapping

import orjson
from fastapi import Response

from .requests import EmbedAnswer


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON; numpy arrays in `content` are written as lists of numbers."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def answer_headers(answer: EmbedAnswer) -> dict[str, str]:
    """Return what every answer says beside its dialect: who computed it, in which space, what was truncated."""
    headers = {"X-Space-Id": answer.space_id, "X-Variant": answer.variant, "X-Release": answer.release}
    if answer.truncated:
        headers["X-Truncated"] = ",".join(map(str, answer.truncated))
    if answer.skipped:
        headers["X-Fallback"] = "; ".join(answer.skipped)
    return headers
