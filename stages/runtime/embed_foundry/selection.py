"""Which variant runs where, and why: a pure function of a bundle's contract and of the environment.

The rule, `RULE`:
1. A variant that cannot run here is out: its library is missing, the CPU lacks instructions that its figures depend
   on, its measured peak memory does not fit, or it needs CUDA.
2. Only variants of one vector space replace each other: that of the target's first choice. Others must be opened by
   name, because an index that was built in one space cannot be searched from another.
3. Of those left, variants for CUDA go first where there is CUDA; then those whose weights fit the memory's tier, or
   exceed it least; then the target's own order, which weighs quality and measured latency.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .contract import Contract, ShippedVariant
from .encoders.kinds import KINDS
from .environment import Environment

RULE = 1
# Memory in MB, and up to it the widest weights to try first, in bits: 4 up to 2 GB, 8 up to 8 GB, any above.
TIERS = ((2048, 4), (8192, 8))
FULL = 32
# Railway shares its CPUs: full precision takes 40 s per paragraph there, whatever the plan's memory.
RAILWAY_BITS = 8
# A process that uses more than this part of its memory is about to be killed.
CRITICAL = 0.9


@dataclass(frozen=True)
class Choice:
    """What the rule says of one variant.

    Attributes:
        name: the variant.
        obstacles: why it cannot run here, each with the next step; empty if it can.
        same_space: whether it may replace the target's first choice.
    """

    name: str
    obstacles: tuple[str, ...]
    same_space: bool

    @property
    def eligible(self) -> bool:
        """Whether the variant is tried without being named."""
        return self.same_space and not self.obstacles


@dataclass(frozen=True)
class Decision:
    """The rule's answer.

    Attributes:
        space_id: the vector space of the target's first choice.
        bits: the tier: weights up to this width are tried first.
        reason: where the tier comes from.
        choices: every shipped variant in the rule's order, eligible or not.
    """

    space_id: str
    bits: int
    reason: str
    choices: tuple[Choice, ...]

    @property
    def order(self) -> list[str]:
        """Names of the eligible variants in the order in which they are tried."""
        return [choice.name for choice in self.choices if choice.eligible]

    def list_skipped(self, name: str | None = None) -> list[str]:
        """Return which variants of the space cannot run, and why: those before `name`, or all of them."""
        names = [choice.name for choice in self.choices]
        return [
            f"{choice.name}: {' and '.join(choice.obstacles)}"
            for choice in self.choices[: None if name is None else names.index(name)]
            if choice.same_space and choice.obstacles
        ]


def decide(contract: Contract, environment: Environment) -> Decision:
    """Apply the rule; no files, no clock, nothing of this host but what `environment` says."""
    space = contract.variants[contract.order[0]].space_id
    bits, reason = choose_tier(environment)

    def rank(name: str) -> tuple[bool, int, int]:
        shipped = contract.variants[name]
        return shipped.device != "cuda", max(0, shipped.bits - bits), contract.order.index(name)

    choices = []
    for name in sorted(contract.order, key=rank):
        shipped = contract.variants[name]
        choices.append(Choice(name, tuple(find_obstacles(shipped, environment)), shipped.space_id == space))
    return Decision(space, bits, reason, tuple(choices))


def choose_tier(environment: Environment) -> tuple[int, str]:
    """Return the widest weights to try first, in bits, and the reason."""
    memory = environment.memory_mb
    if environment.railway:
        return RAILWAY_BITS, "Railway shares its CPUs"
    if memory is None:
        return FULL, "unknown memory"
    for most, bits in TIERS:
        if memory <= most:
            return bits, f"at most {most} MB of memory"
    return FULL, f"over {TIERS[-1][0]} MB of memory"


def find_obstacles(shipped: ShippedVariant, environment: Environment) -> Iterator[str]:
    """Yield each reason why a variant cannot run in an environment, with the next step."""
    if shipped.kind not in KINDS:
        yield f"kind {shipped.kind} is unknown to this runtime; install the wheel in the bundle's runtime/ folder"
    elif shipped.kind not in environment.libraries:
        kind = KINDS[shipped.kind]
        yield f"{kind.module} is not installed; {kind.install}"
    needed = shipped.cpu_any.get(environment.arch, frozenset())
    if needed and environment.flags is not None and not needed & environment.flags:
        yield f"this CPU has none of {' '.join(sorted(needed))}, which its figures need; use another variant or host"
    if shipped.device == "cuda" and not environment.cuda:
        yield "it needs CUDA, which is not available here; use another variant or host"
    peak, memory = shipped.peak_rss_mb, environment.memory_mb
    if peak is not None and memory is not None and peak > CRITICAL * memory:
        yield f"its peak memory of {peak:g} MB is over {CRITICAL:.0%} of {memory} MB; give the process more"
