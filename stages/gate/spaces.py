"""Which variants share the baseline's vector space: declared by what made them, confirmed by mixed indexes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stages.common.records.scores import Compatibility, MixedIndex


@dataclass(frozen=True)
class Space:
    """A variant's vector space.

    Attributes:
        space_id: vectors of two variants may meet in one index only if theirs are equal.
        alone: why it is the variant's own although the variant declares the baseline's; empty if it is not.
    """

    space_id: str
    alone: list[str] = field(default_factory=list)


def confirm(
    declared: Mapping[str, str], baseline: str, compatibility: Compatibility, minimum: float
) -> dict[str, Space]:
    """Return each variant's space.

    A variant shares the baseline's space if, on every retrieval task, queries by one over an index by the other rank as
    well as the baseline alone, both ways round. Without retrieval tasks nothing speaks against what is declared.

    Args:
        declared: variant -> the space_id of its record.
        baseline: the variant that the others are mixed with.
        compatibility: figures of mixed indexes.
        minimum: least part of the baseline's own ndcg@10 that a mixed pair must reach.
    """
    spaces: dict[str, Space] = {}
    for name, space_id in declared.items():
        shares = name != baseline and space_id == declared[baseline]
        reasons = list(_object_to_sharing(name, baseline, compatibility, minimum)) if shares else []
        spaces[name] = Space(f"{space_id}-{name}" if reasons else space_id, reasons)
    return spaces


def _object_to_sharing(name: str, baseline: str, compatibility: Compatibility, minimum: float) -> Iterator[str]:
    """Yield each mixed index that ranks worse than the minimum, in words."""
    for task, queries in sorted(compatibility.root.items()):
        reference = _ndcg(queries, baseline, baseline)
        for asking, holding in ((name, baseline), (baseline, name)):
            mixed = _ndcg(queries, asking, holding)
            part = mixed / reference if mixed is not None and reference else None
            if part is None or not part >= minimum:
                kept = "not measured" if part is None else f"{100 * part:.1f} %"
                yield (
                    f"{task}: queries by {asking} over an index by {holding} keep {kept} of ndcg_at_10, "
                    f"at least {100 * minimum:g} % are needed to share an index"
                )


def _ndcg(queries: Mapping[str, Mapping[str, MixedIndex]], asking: str, holding: str) -> float | None:
    figures = queries.get(asking, {}).get(holding)
    return figures.ndcg_at_10 if figures else None
