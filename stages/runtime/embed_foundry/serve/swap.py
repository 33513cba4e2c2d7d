"""How one release takes another's place: whether both fit in memory, and what the new one must prove first."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import selection
from ..environment import MIB, Environment
from ..errors import IntegrityError, RetryableError
from . import memory
from .engine import Engine
from .probing import GoldenProbe
from .requests import AUTO
from .serving import Serving
from .settings import Settings
from .source import UnchangedBundle

# Memory of a variant whose peak was not measured, over the size of its files: weights, and what a call computes.
UNMEASURED = 2.5
MEGABYTE = 1e6
# Seconds that a variant may take to open and to answer the golden probe.
OPENING_S = 600.0


@dataclass(frozen=True)
class Plan:
    """How a release is taken.

    Attributes:
        variants: those that are opened before it answers.
        pauses: whether the current one must be closed first.
        reason: why it pauses; "" if it does not.
    """

    variants: tuple[str, ...]
    pauses: bool = False
    reason: str = ""


def make_plan(old: Serving | None, new: UnchangedBundle, settings: Settings) -> Plan:
    """Return how a release takes the place of another.

    Raises:
        RetryableError: both do not fit in memory at once, and the old one could not be opened again if the new one
            turned out to be bad.
    """
    environment = Environment.detect()
    first = tuple(selection.decide(new.contract, environment).order[:1])
    in_memory = old.engine.loaded if old else ()
    variants = tuple(dict.fromkeys([*first, *(name for name in in_memory if name in new.contract.variants)]))
    if not old or environment.memory_mb is None:
        return Plan(variants)
    limit_mb = selection.CRITICAL * environment.memory_mb * MIB / MEGABYTE / settings.processes
    resident_mb, needed_mb = memory.read_rss_mb() * MIB / MEGABYTE, sum(estimate_mb(new, name) for name in variants)
    if resident_mb + needed_mb <= limit_mb:
        return Plan(variants)
    reason = (
        f"{needed_mb:.0f} MB for {', '.join(variants)} beside the {resident_mb:.0f} MB in use exceed "
        f"{selection.CRITICAL:.0%} of this process's memory, {limit_mb:.0f} MB"
    )
    if not old.bundle.unchanged:
        raise RetryableError(
            f"{new.folder}: release {new.digest[:12]} was not taken: {reason}, and the current one's files are gone, "
            "so it could not come back if this one fails. Restart the service, or give it more memory."
        )
    return Plan(variants, pauses=True, reason=reason)


async def open_release(
    bundle: UnchangedBundle, variants: Sequence[str], make: Callable[[UnchangedBundle], Engine], *, strict: bool
) -> Serving:
    """Return a release that proved itself: every variant was opened, self-tested, and answered the golden probe.

    Args:
        bundle: the verified release.
        variants: those to open; empty opens the one that the selection rule chooses.
        make: makes its engine.
        strict: whether each must open. Else any variant that opens will do: another release is not at hand.

    Raises:
        RefusalError: no variant can be opened.
        FoundryError: a variant does not open, or gives other vectors than at release.
    """
    engine = make(bundle)
    try:
        probe = await asyncio.to_thread(GoldenProbe.load, bundle)
        for name in variants if strict and variants else (AUTO,):
            # Without a deadline of its own: a large variant takes minutes to open on a small host.
            answer = await engine.embed(probe.request(name, deadline_s=OPENING_S))
            if strict and name not in (AUTO, answer.variant):
                raise IntegrityError(
                    f"{bundle.folder}: {name} of release {bundle.digest[:12]} does not answer here; {answer.variant} "
                    f"did. {'; '.join(answer.skipped)}"
                )
            probe.check(answer)
    except BaseException:
        await engine.close()
        raise
    return Serving(bundle, engine, probe)


def estimate_mb(bundle: UnchangedBundle, variant: str) -> float:
    """Return what a variant needs in memory, in 10^6 bytes: its measured peak, or an estimate from its size."""
    shipped = bundle.contract.variants[variant]
    return UNMEASURED * shipped.size_mb if shipped.peak_rss_mb is None else shipped.peak_rss_mb


def describe(old: Serving | None, new: Serving, plan: Plan) -> str:
    """Return one sentence about a release that answers from now on."""
    parts = [f"release {new.bundle.digest[:12]} answers now, by {', '.join(new.engine.loaded)}"]
    if old:
        parts.append(f"in place of {old.bundle.digest[:12]}")
        if old.space != new.space:
            parts.append(f"in ANOTHER vector space ({new.space} after {old.space}): indexes must be built again")
    if plan.reason:
        parts.append(f"after a pause, for {plan.reason}")
    return "; ".join(parts)
