"""quality: every variant on every task at every Matryoshka dimension, by mteb, through the encoders that ship.

In: the catalogued variants, data/. Out: quality/: the files of stages/common/records/scores.py, and mteb's own
TaskResults without times and dates as results/VARIANT/DIMENSION/TASK.json.
A cell is one variant on one task; cells are evaluated in this process, or on a Dask cluster (engine=dask), with the
same result.
Fails: 2 the suite is empty or unknown, or a cluster's worker is not like this machine; 3 an input differs from its
manifest, or mteb gives no finite score; 75 no cluster answers, or it lost its workers.
A variant whose encoder fails is recorded as such and fails at the gate; the others go on.
"""

from stages.quality.stage import LOCAL, run

__all__ = ["LOCAL", "run"]
