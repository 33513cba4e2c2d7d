"""Why a request is refused: one table of reasons, which every door writes in its own dialect."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Reason:
    """One kind of refusal.

    Attributes:
        code: what a program reads, such as "unknown_model".
        status: the HTTP status; a door may have another one where its dialect documents it.
        retry: whether the same request may be answered later.
    """

    code: str
    status: int
    retry: bool = False


MALFORMED: Final = Reason("malformed", 400)  # no JSON, or not the shape that the door documents
INVALID_INPUT: Final = Reason("invalid_input", 400)  # the right shape, a value that cannot be used
EMPTY_INPUT: Final = Reason("empty_input", 400)
INPUT_TOO_LONG: Final = Reason("input_too_long", 400)  # over the token limit, and truncation was switched off
TOKEN_IDS: Final = Reason("token_ids", 400)  # ids of some other tokenizer make wrong vectors
UNAUTHORIZED: Final = Reason("unauthorized", 401)
NOT_FOUND: Final = Reason("not_found", 404)  # no such path
METHOD_NOT_ALLOWED: Final = Reason("method_not_allowed", 405)
BODY_TIMEOUT: Final = Reason("body_timeout", 408)  # the client sends its body too slowly
UNSUPPORTED_MEDIA_TYPE: Final = Reason("unsupported_media_type", 415)
CLIENT_GONE: Final = Reason("client_gone", 499)  # nobody reads this answer; the number is nginx's
INTERNAL: Final = Reason("internal", 500)  # a fault of ours
UNKNOWN_MODEL: Final = Reason("unknown_model", 404)
OTHER_SPACE: Final = Reason("other_space", 409)
TOO_LARGE: Final = Reason("too_large", 413)  # the body, the number of texts, or the characters of one
OVERLOADED: Final = Reason("overloaded", 429, retry=True)  # the queue is full, or would outlast the deadline
TOO_MANY_REQUESTS: Final = Reason("too_many_requests", 429, retry=True)  # of one client at once
UNAVAILABLE: Final = Reason("unavailable", 503, retry=True)  # no variant can be opened, or the process is ending
DEADLINE: Final = Reason("deadline", 503, retry=True)  # accepted, but not computed in time
UNSOUND_VECTOR: Final = Reason("unsound_vector", 503)  # the model gave a value that is no number; never sent


class RefusalError(Exception):
    """A request that is not answered.

    Args:
        reason: which kind.
        message: fact, expectation, next step; without the client's text.
        param: the field of the request that is at fault, in the door's own naming; "" if none is.
        retry_after_s: when to come again, in seconds; None where the reason does not say to.
    """

    def __init__(self, reason: Reason, message: str, param: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.param, self.retry_after_s = reason, message, param, retry_after_s
