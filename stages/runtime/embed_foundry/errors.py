"""Every error a user can cause or meet, each with its documented exit code.

A message says three things: the fact, what was expected, and the next step.
"""


class FoundryError(Exception):
    """Base of all expected errors; `code` becomes the process exit code."""

    code = 1


class InputError(FoundryError):
    """Configuration, arguments or input data are not usable as given (exit 2)."""

    code = 2


class IntegrityError(FoundryError):
    """Bytes are not what their manifest, pin or source says they are (exit 3)."""

    code = 3


class GateError(FoundryError):
    """A measured variant, or a whole release candidate, missed its limits (exit 4)."""

    code = 4


class RemoteError(FoundryError):
    """A remote said no and will say no again: gated, forbidden, absent (exit 5)."""

    code = 5


class RetryableError(FoundryError):
    """The same command may succeed later: lock held, disk full, remote unavailable (exit 75, EX_TEMPFAIL)."""

    code = 75
