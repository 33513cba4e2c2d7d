"""latency: all variants against the baseline, interleaved, each in its own process with pinned threads.

In: the catalogued variants, data/ (documents that inputs are cut from), machine.json.
Out: latency/latency.json (common/records/latency.py) and latency/samples.csv (every kept call).
Warns: other processes took CPUs that the measured threads needed.
Fails: 2 machine.json describes another machine, data/ has no texts; 3 an input differs from its manifest, or the
baseline's encoder fails; 75 the baseline's process dies or hangs. If any other variant fails, that is its result, and
the gate fails it.
"""

from stages.latency.measurement import measure
from stages.latency.stage import run

__all__ = ["measure", "run"]
