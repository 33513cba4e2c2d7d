"""Progress with the remaining time: a bar on a terminal, a plain line every ten seconds elsewhere."""

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Never

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_S = 10.0


class _LineWriter(io.TextIOBase):
    """Turns tqdm's redrawn bar into lines on stderr."""

    def write(self, text: str) -> int:
        if line := text.strip():
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        return len(text)


def bar(name: str, total: int) -> "tqdm[Never]":
    """Return a tqdm over `total` steps, for use in `with`."""
    return _make_bar(name, total, "{desc}: {n_fmt}/{total_fmt}, {elapsed} elapsed, {remaining} left")


@contextmanager
def share_bar(name: str, total: float) -> "Iterator[tqdm[Never]]":
    """Yield a tqdm over `total` units of work that shows the share done, also while a long step goes on.

    The remaining time follows from the rate since the start: steps differ, and the last ones alone would mislead.
    """
    line = "{desc}: {percentage:.0f} %, {elapsed} elapsed, {remaining} left"
    ended = threading.Event()
    with _make_bar(name, total, line, smoothing=0) as progress:

        def refresh() -> None:
            while not ended.wait(LINE_S):
                progress.refresh()

        threading.Thread(target=refresh, daemon=True).start()
        try:
            yield progress
        finally:
            ended.set()


def byte_bar(name: str, total: int) -> "tqdm[Never]":
    """Return a tqdm over `total` bytes that shows their rate, for use in `with`."""
    line = "{desc}: {n_fmt}B/{total_fmt}B, {rate_fmt}, {elapsed} elapsed, {remaining} left"
    return _make_bar(name, total, line, unit="B", unit_scale=True)


def _make_bar(
    name: str, total: float, line: str, unit: str = "it", *, unit_scale: bool = False, smoothing: float = 0.3
) -> "tqdm[Never]":
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(
            desc=name,
            total=total,
            leave=False,
            unit=unit,
            unit_scale=unit_scale,
            smoothing=smoothing,
            bar_format=None if smoothing else f"{line} |{{bar}}|",
            disable=False,
        )
    return tqdm(
        desc=name,
        total=total,
        unit=unit,
        unit_scale=unit_scale,
        smoothing=smoothing,
        file=_LineWriter(),
        mininterval=LINE_S,
        maxinterval=LINE_S,
        bar_format=line,
        disable=False,
    )
