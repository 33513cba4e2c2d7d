"""What an engine says of itself."""

from dataclasses import dataclass

from .batching import Load


@dataclass(frozen=True)
class VariantStatus:
    """What a variant of the release does now.

    Attributes:
        name: the variant's.
        space_id: its vector space.
        loaded: whether it is in memory.
        failed: why it cannot answer now; "" if it can.
        tokens_per_s: its measured speed, all lanes together; None before its first call.
    """

    name: str
    space_id: str
    loaded: bool
    failed: str
    tokens_per_s: float | None


@dataclass(frozen=True)
class Status:
    """What an engine does now.

    Attributes:
        variants: each of the release, in the target's order.
        waiting: texts that wait for a lane.
    """

    variants: tuple[VariantStatus, ...]
    waiting: Load
