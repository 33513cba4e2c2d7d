"""Progress with the time left: a bar on a terminal, a plain line every ten seconds elsewhere."""

import io
import sys
from typing import TYPE_CHECKING, Any, Never

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_S = 10.0


class _Lines(io.TextIOBase):
    """Turns tqdm's redrawn bar into lines on stderr."""

    def write(self, text: str) -> int:
        if line := text.strip():
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        return len(text)


def bar(what: str, total: int) -> "tqdm[Never]":
    """Return a tqdm over `total` steps, for use in `with`."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(desc=what, total=total, leave=False, disable=False)
    return _lines(what, total, "{desc}: {n_fmt}/{total_fmt}, {elapsed} gone, {remaining} left")


def transfer(what: str, total: int) -> "tqdm[Never]":
    """Return a tqdm over `total` bytes with their rate, for use in `with`."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(desc=what, total=total, leave=False, unit="B", unit_scale=True, disable=False)
    form = "{desc}: {n_fmt}B/{total_fmt}B, {rate_fmt}, {elapsed} gone, {remaining} left"
    return _lines(what, total, form, unit="B", unit_scale=True)


def _lines(what: str, total: int, form: str, **more: Any) -> "tqdm[Never]":  # noqa: ANN401 - tqdm's own options
    from tqdm import tqdm

    return tqdm(
        desc=what,
        total=total,
        file=_Lines(),
        mininterval=LINE_S,
        maxinterval=LINE_S,
        bar_format=form,
        disable=False,
        **more,
    )
