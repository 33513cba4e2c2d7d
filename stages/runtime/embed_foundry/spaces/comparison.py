"""May the new release search the index that the old one built? Measured on texts, and answered in one of four ways."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter

from ..bundle import Bundle
from ..encoders.encoder import Encoder
from ..environment import Environment
from ..errors import InputError
from ..selection import decide
from . import linear_map
from .linear_map import LinearMap, Space
from .measure import Pairs, TaskComparison, TextEncoder, encode, encode_fitting, join, measure, measure_map
from .texts import RetrievalTexts


class Answer(StrEnum):
    """What an upgrade may do with the old index."""

    IDENTICAL = "identical bytes"
    SAME_SPACE = "same space"
    MAPPABLE = "mappable"
    RE_EMBED = "re-embed"


@dataclass(frozen=True)
class Side:
    """One release and the variant of it that is compared.

    Attributes:
        label: how the user named the release.
        bundle: the release.
        variant: the variant's name.
        dimensions: length of its vectors, which are truncated to it if they are longer (Matryoshka).
    """

    label: str
    bundle: Bundle
    variant: str
    dimensions: int

    @classmethod
    def choose(cls, label: str, bundle: Bundle, variant: str | None = None, dimensions: int | None = None) -> "Side":
        """Return a release with a variant of it, or with the one that this host would open; full vectors by default.

        Raises:
            InputError: there is no such variant, none can run here, or it has no such dimensions.
        """
        order = decide(bundle.contract, Environment.detect()).order
        if variant is not None and variant not in bundle.order:
            raise InputError(f"{label}: has no variant {variant!r}; it ships {bundle.order}.")
        if variant is None and not order:
            raise InputError(f"{label}: no variant can run here. `embed-foundry explain` says why.")
        name = variant or order[0]
        full = int(bundle.raw["variants"][name]["dimensions"])
        if dimensions is not None and not 1 <= dimensions <= full:
            raise InputError(f"{label}: {dimensions} dimensions are out of range for {name}: 1 to {full}.")
        return cls(label, bundle, name, dimensions or full)

    @property
    def space(self) -> Space:
        """The space of the variant's vectors."""
        shipped = self.bundle.contract.variants[self.variant]
        return Space(shipped.space_id, self.bundle.digest, self.variant, shipped.digest, self.dimensions)

    def open(self) -> Encoder:
        """Return the variant's encoder, self-tested."""
        return self.bundle.open(self.variant)


@dataclass(frozen=True)
class Comparison:
    """What comparing two releases gave.

    Attributes:
        old, new: the releases.
        answer: the verdict.
        reason: why, in one sentence.
        kept_min: the limit that shares were held against.
        tasks: what was measured; empty for identical bytes.
        map: from the old space to the new one, fitted to all texts; None if it was not tried.
    """

    old: Side
    new: Side
    answer: Answer
    reason: str
    kept_min: float
    tasks: list[TaskComparison]
    map: LinearMap | None = None


def compare(
    old: Side,
    new: Side,
    tasks: Sequence[RetrievalTexts],
    *,
    kept_min: float,
    fitting: Callable[[], Sequence[str]] = tuple,
    want_map: bool = False,
) -> Comparison:
    """Compare two releases.

    Args:
        old: the release that built the index.
        new: the release that shall search it.
        tasks: texts to measure on.
        kept_min: share of an index's own nDCG@10 that must be kept, at the lower bound.
        fitting: loads the texts that a map is fitted to, beside the documents; called if one is.
        want_map: also fit a map between releases of one space.

    Raises:
        InputError: there are no texts, or none of the variants' libraries is installed.
        IntegrityError: a variant does not pass its self-test.
    """
    if old.space.digest == new.space.digest:
        return _compare_lengths(old, new, kept_min)
    if not tasks:
        raise InputError("there are no texts to compare on. Name them: --queries FILE --documents FILE, or --task.")
    encoders = (TextEncoder(old.open(), old.dimensions), TextEncoder(new.open(), new.dimensions))
    encoded = [encode(encoders, texts) for texts in tasks]
    measured = [measure(vectors) for vectors in encoded]
    apart = list(_object_to_sharing(measured, kept_min))
    if not apart and not want_map:
        return Comparison(old, new, Answer.SAME_SPACE, _praise(measured), kept_min, measured)
    pairs = encode_fitting(encoders, fitting())
    measured = [
        replace(task, mapped=measure_map(vectors, pairs)) for task, vectors in zip(measured, encoded, strict=True)
    ]
    fitted = _fit_all(old, new, measured, join(pairs, *((part.old_documents, part.new_documents) for part in encoded)))
    if not apart:
        return Comparison(old, new, Answer.SAME_SPACE, _praise(measured), kept_min, measured, fitted)
    lost = [task for task in measured if not (task.mapped and task.mapped.low >= kept_min)]
    if not lost:
        kept = "; ".join(f"{task.mapped} on {task.name}" for task in measured)
        reason = f"{apart[0]} A linear map of the old index keeps {kept} of the new release's own nDCG@10."
        return Comparison(old, new, Answer.MAPPABLE, reason, kept_min, measured, fitted)
    reason = (
        f"{apart[0]} A linear map of the old index keeps {lost[0].mapped} on {lost[0].name}, at least "
        f"{100 * kept_min:g} % are needed."
    )
    return Comparison(old, new, Answer.RE_EMBED, reason, kept_min, measured, fitted)


def _compare_lengths(old: Side, new: Side, kept_min: float) -> Comparison:
    """Return the comparison of two releases whose variants have the same files."""
    same = f"{old.variant} and {new.variant} have the same files, so the same vectors on one host"
    if old.dimensions == new.dimensions:
        return Comparison(old, new, Answer.IDENTICAL, f"{same}.", kept_min, [])
    if old.dimensions < new.dimensions:
        advice = f"truncate queries to the index's {old.dimensions} dimensions"
    else:
        advice = f"truncate the index to {new.dimensions} dimensions, and normalise it again"
    return Comparison(old, new, Answer.SAME_SPACE, f"{same} but for their length: {advice}.", kept_min, [])


def _object_to_sharing(tasks: list[TaskComparison], kept_min: float) -> Iterator[str]:
    """Yield each mixed index that loses more than the limit, in words."""
    for task in tasks:
        mixes = (("new", "old", task.new_over_old), ("old", "new", task.old_over_new))
        for asking, holding, kept in mixes:
            if kept is None:
                yield "The vectors differ in length."
                return
            if not kept.low >= kept_min:  # also if it is NaN
                yield (
                    f"Queries by the {asking} release over an index by the {holding} one keep {kept} of nDCG@10 on "
                    f"{task.name}, at least {100 * kept_min:g} % are needed."
                )


def _praise(tasks: list[TaskComparison]) -> str:
    """Return the least that a mixed index keeps, in words."""
    kept = min(
        (bounds for task in tasks for bounds in (task.new_over_old, task.old_over_new) if bounds), key=attrgetter("low")
    )
    return f"Queries by either release over the other's index keep {kept} of nDCG@10 where they keep least."


def _fit_all(old: Side, new: Side, tasks: list[TaskComparison], pairs: Pairs) -> LinearMap:
    """Return the map that is fitted to all texts, documents of the tasks included."""
    matrix, penalty = linear_map.fit(*pairs)
    kept = {task.name: (task.mapped.estimate, task.mapped.low) for task in tasks if task.mapped}
    return LinearMap(old.space, new.space, matrix, len(pairs[0]), penalty, kept)
