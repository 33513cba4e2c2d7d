"""Which variants share the baseline's vector space: declared by what made them, confirmed by mixed indexes."""

from collections.abc import Mapping
from typing import Any

from stages.gate.judge import at

FIGURE = "ndcg_at_10"


def confirm(
    declared: Mapping[str, str], baseline: str, matrix: Mapping[str, Any], minimum: float
) -> dict[str, tuple[str, list[str]]]:
    """Return each variant's space, and why it has one of its own although it declares the baseline's.

    A variant shares the baseline's space if, on every retrieval task, queries by one over an index by the other rank as
    well as the baseline alone, both ways round. Without retrieval tasks nothing speaks against what is declared.

    Args:
        declared: variant -> the space_id of its record.
        baseline: the variant that the others are mixed with.
        matrix: content of compatibility.json.
        minimum: least part of the baseline's own ndcg@10 that a mixed pair must reach.
    """
    result: dict[str, tuple[str, list[str]]] = {}
    for name, space in declared.items():
        reasons = []
        if name != baseline and space == declared[baseline]:
            for task, pairs in sorted(matrix.items()):
                reference = at(pairs, baseline, baseline, FIGURE)
                for asking, holding in ((name, baseline), (baseline, name)):
                    found = at(pairs, asking, holding, FIGURE)
                    if found is None or not reference or found / reference < minimum:
                        kept = "not measured" if found is None or not reference else f"{100 * found / reference:.1f} %"
                        reasons.append(
                            f"{task}: queries by {asking} over an index by {holding} keep {kept} of {FIGURE}, "
                            f"at least {100 * minimum:g} % are needed to share an index"
                        )
        result[name] = (f"{space}-{name}" if reasons else space, reasons)
    return result
