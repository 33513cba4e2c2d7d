"""The choice of a variant in plain sentences: what `embed-foundry explain` prints."""

from collections.abc import Iterator

from .bundle import Bundle
from .contract import ShippedVariant
from .environment import Environment
from .selection import FULL, Choice, decide


def explain_choice(bundle: Bundle, environment: Environment) -> Iterator[str]:
    """Yield the explanation line by line: the host, the rule, then every variant in the order in which it is tried."""
    contract, decision = bundle.contract, decide(bundle.contract, environment)
    yield f"bundle: {bundle.name}, vector space {decision.space_id}"
    yield f"host: {environment.describe()}"
    yield f"rule: {_describe_rule(decision.bits, decision.reason)}, then the target's order {', '.join(contract.order)}"
    eligible = [choice for choice in decision.choices if choice.eligible]
    others = [choice for choice in decision.choices if not choice.eligible]
    for choice in eligible + others:
        rank = f"{eligible.index(choice) + 1}." if choice.eligible else "-"
        yield f"{rank:<3}{choice.name:<22} {_describe_choice(choice, decision.order)}"
        yield f"   {_describe_figures(contract.variants[choice.name], environment.memory_mb)}"
    if decision.order:
        yield "If all of these fail their self-test, opening ends with exit 3. Another space is only opened by name."
    else:
        yield "No variant of this space can run here: opening ends with exit 2."
    if environment.cuda and all(shipped.device != "cuda" for shipped in contract.variants.values()):
        yield "No shipped variant uses CUDA: all run on the CPU."
    if environment.flags is not None and not contract.cpu_flags <= environment.flags:
        yield f"Speed-ups were measured on {contract.cpu or 'a CPU'}, which has instructions that this CPU lacks."


def _describe_rule(bits: int, reason: str) -> str:
    return f"weights of any width ({reason})" if bits == FULL else f"weights of at most {bits} bits first ({reason})"


def _describe_choice(choice: Choice, order: list[str]) -> str:
    if choice.obstacles:
        return f"cannot run here: {', and '.join(choice.obstacles)}"
    if not choice.same_space:
        return f"opened only by name: it cannot search an index of {order[0] if order else 'the first choice'}"
    rank = order.index(choice.name)
    return "opened first" if rank == 0 else f"opened if {order[rank - 1]} fails its self-test"


def _describe_figures(shipped: ShippedVariant, memory_mb: int | None) -> str:
    """Return what was measured, as far as the choice depends on it."""
    parts = [f"{shipped.kind}, {shipped.bits}-bit weights, {shipped.size_mb:g} MB"]
    if shipped.peak_rss_mb is not None:
        parts.append(f"peak memory {shipped.peak_rss_mb:g}{f' of {memory_mb}' if memory_mb else ''} MB")
    if shipped.speedup:
        ratios = ", ".join(f"{ratio:.2f}x at {tokens}" for tokens, ratio in sorted(shipped.speedup.items()))
        parts.append(f"speed-up {ratios} tokens")
    if shipped.retention:
        parts.append(f"at least {100 * min(shipped.retention.values()):.1f} % of the baseline's quality")
    return "; ".join(parts)
