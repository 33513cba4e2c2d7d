"""Every error that a user can cause or meet, each with its documented exit code.

A message says three things: what happened, what was expected, and what to do next.
"""

import re

# What steers a terminal, reorders what is read, ends a line for some programs, or is no character. Not \n and \t, nor
# U+DC80 to U+DCFF, by which Python names the bytes of a path that is not UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff\ufeff]")


class FoundryError(Exception):
    """Base of all expected errors: `code` becomes the process exit code, `summary` explains it in help texts.

    Messages quote what files hold; characters in it that a terminal does not show are written as escapes.
    """

    code = 1
    summary = "unexpected"

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class InputError(FoundryError):
    """Configuration, arguments or input data are not usable as given (exit 2)."""

    code = 2
    summary = "config or input"


class IntegrityError(FoundryError):
    """Bytes are not what their manifest, pin or source says they are (exit 3)."""

    code = 3
    summary = "integrity"


class GateError(FoundryError):
    """A measured variant, or a whole release candidate, missed its limits (exit 4)."""

    code = 4
    summary = "gate"


class RemoteError(FoundryError):
    """A remote refused and will refuse again: gated, forbidden, absent (exit 5)."""

    code = 5
    summary = "remote refused"


class RetryableError(FoundryError):
    """The same command may succeed later: lock held, disk full, remote unavailable (exit 75, EX_TEMPFAIL)."""

    code = 75
    summary = "busy or retryable"


# The exit codes as help texts show them; a new kind of error adds itself.
EXIT_CODES = "exit codes: 0 ok, " + ", ".join(
    f"{kind.code} {kind.summary}" for kind in sorted(FoundryError.__subclasses__(), key=lambda kind: kind.code)
)


def printable(text: str) -> str:
    """Return a text with escapes in place of characters that a terminal does not show."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def one_line(error: object) -> str:
    """Return what an error of a library says, on one line: in a message of ours it is only the reason."""
    return " ".join(str(error).split())
