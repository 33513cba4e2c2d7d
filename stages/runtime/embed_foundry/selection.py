"""Which variant runs where, and why: a pure function of what a bundle says and of the environment.

The rule, `RULE`:
1. A variant that cannot run here is out: its library is missing, the CPU lacks instructions under which it was judged,
   its measured peak memory does not fit, or it needs CUDA.
2. Only variants of one vector space stand in for each other: that of the target's first choice. Others must be asked
   for by name, because an index that was built with one space cannot be searched with another.
3. Of what is left, those for CUDA go first where there is CUDA; then those whose weights are in the memory's tier, or
   least above it; then the target's own order, in which quality and measured latency were weighed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .contract import Contract, Shipped
from .environment import Environment
from .kinds import KINDS

RULE = 1
# Memory up to so many MB -> the widest weights to take first, in bits: 4-bit up to 2 GB, 8-bit up to 8 GB, full above.
TIERS = ((2048, 4), (8192, 8))
FULL = 32
# Railway shares its CPUs: full precision takes 40 s a paragraph there, whatever memory the plan has.
RAILWAY_BITS = 8
# A process over this part of its memory is about to be killed.
CRITICAL = 0.9


@dataclass(frozen=True)
class Choice:
    """What the rule says of one variant.

    Attributes:
        name: the variant.
        obstacles: why it cannot run here, each with the next step; empty if it can.
        same_space: whether it may stand in for the target's first choice.
    """

    name: str
    obstacles: tuple[str, ...]
    same_space: bool

    @property
    def eligible(self) -> bool:
        """Whether the variant is tried without being asked for by name."""
        return self.same_space and not self.obstacles


@dataclass(frozen=True)
class Decision:
    """The rule's answer.

    Attributes:
        space_id: the space that all choices but the named ones belong to.
        bits: the tier: weights up to this width go first.
        why_bits: where the tier comes from.
        choices: every shipped variant in the rule's order, those that are not eligible in their places too.
    """

    space_id: str
    bits: int
    why_bits: str
    choices: tuple[Choice, ...]

    @property
    def order(self) -> list[str]:
        """Names of the eligible variants in the order in which they are tried."""
        return [choice.name for choice in self.choices if choice.eligible]

    def passed_over(self, name: str | None = None) -> list[str]:
        """Return why variants of the space were not tried: those before `name`, or all of them."""
        names = [choice.name for choice in self.choices]
        return [
            f"{choice.name}: {' and '.join(choice.obstacles)}"
            for choice in self.choices[: None if name is None else names.index(name)]
            if choice.same_space and choice.obstacles
        ]


def decide(told: Contract, environment: Environment) -> Decision:
    """Apply the rule; no files, no clock, nothing of this host but what `environment` says."""
    space = told.variants[told.order[0]].space_id
    bits, why = tier(environment)

    def place(name: str) -> tuple[bool, int, int]:
        shipped = told.variants[name]
        return shipped.device != "cuda", max(0, shipped.bits - bits), told.order.index(name)

    choices = []
    for name in sorted(told.order, key=place):
        shipped = told.variants[name]
        choices.append(Choice(name, tuple(obstacles(shipped, environment)), shipped.space_id == space))
    return Decision(space, bits, why, tuple(choices))


def tier(environment: Environment) -> tuple[int, str]:
    """Return the widest weights to take first, in bits, and why."""
    memory = environment.memory_mb
    if environment.railway:
        return RAILWAY_BITS, "Railway shares its CPUs"
    if memory is None:
        return FULL, "memory unknown"
    for most, bits in TIERS:
        if memory <= most:
            return bits, f"memory {memory} MB is at most {most}"
    return FULL, f"memory {memory} MB is over {TIERS[-1][0]}"


def obstacles(shipped: Shipped, environment: Environment) -> Iterator[str]:
    """Yield why a variant cannot run in an environment, each with the next step."""
    if shipped.kind not in KINDS:
        yield f"kind {shipped.kind} is unknown to this runtime; install the wheel in the bundle's runtime/ folder"
    elif shipped.kind not in environment.libraries:
        kind = KINDS[shipped.kind]
        yield f"{kind.module} is not installed; {kind.install}"
    needed = shipped.cpu_any.get(environment.arch, frozenset())
    if needed and environment.flags is not None and not needed & environment.flags:
        yield f"this CPU has none of {' '.join(sorted(needed))}, with which it was judged; take another variant or host"
    if shipped.device == "cuda" and not environment.cuda:
        yield "it needs CUDA; none is visible here"
    peak, memory = shipped.peak_rss_mb, environment.memory_mb
    if peak is not None and memory is not None and peak > CRITICAL * memory:
        yield f"its peak memory {peak:g} MB is over {CRITICAL:.0%} of {memory} MB; give the process more"
