"""gate: scores, latency and parity against the target's limits -> a verdict per variant, and one for the release.

In: catalog/, variants/, quality/, latency/. Out: gate/ (verdict.json, metrics.json, and two tables for `dvc plots`),
small and kept in git so that a verdict and its reasons can be read without any cache.
Fails: 3 an input differs from its manifest, or holds what its stage does not write. A missed limit is a verdict, not a
failure: `bundle` refuses (exit 4).
"""

from stages.gate.decision import decide
from stages.gate.stage import run

__all__ = ["decide", "run"]
