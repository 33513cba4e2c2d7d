"""report: one page that people look at, and the verdict table that a build ends with.

In: the catalogued variants, quality/, latency/, gate/. Out: report/index.html (one self-contained page: no script,
nothing fetched), report/verdict.txt. It judges nothing: every verdict, limit and margin on it is the gate's.
Fails: 3 an input differs from its manifest, holds what its stage does not write, or the gate judged other inputs.
Target: the same bytes for the same inputs, in every time zone and locale.
"""

from stages.report.stage import PAGE, TEXT, run

__all__ = ["PAGE", "TEXT", "run"]
