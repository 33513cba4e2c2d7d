"""quality: every variant on every task at every Matryoshka dimension, by mteb, through the encoders that ship.

In: the catalogued variants, data/. Out: quality/
    scores.json                  variant -> dimension -> task -> {type, metric, main_score (0 to 1), samples, subsets?},
                                 or variant -> {"error": why}; the largest dimension is the variant's full one
    samples/VARIANT.json         dimension -> task -> subset -> {name: [one value a sample]}, ids and order by the task;
                                 {} for types that have no such values
    results/VARIANT/DIM/TASK.json  mteb's own TaskResult, without times and dates
    compatibility.json           retrieval task -> query variant -> index variant -> {recall, ndcg, overlap}_at_10
    shorter.json                 retrieval task -> variant -> tokens -> main_score with texts cut to quality.max_tokens
    floor.json                   task -> main_score of random token vectors (quality/floor.py)
Cells are measured in this process, or on a Dask cluster (engine=dask), with the same result.
Fails: 2 the suite is empty or unknown, or a cluster's worker is not like this machine; 3 an input differs from its
manifest, or mteb gives no finite score; 75 no cluster answers, or it lost its workers.
A variant whose encoder fails is recorded as such, and fails at the gate; the others go on.
"""

from stages.quality.stage import LOCAL, run

__all__ = ["LOCAL", "run"]
