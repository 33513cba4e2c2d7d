"""The choice of a variant in words: what `embed-foundry explain` prints."""

from collections.abc import Iterator

from .bundle import Bundle
from .contract import Shipped
from .environment import Environment
from .selection import FULL, Choice, decide


def lines(bundle: Bundle, environment: Environment) -> Iterator[str]:
    """Yield the explanation line by line: the host, the rule, then every variant in the order in which it is tried."""
    told, decision = bundle.contract, decide(bundle.contract, environment)
    yield f"{bundle.name}, space {decision.space_id}"
    yield f"host: {environment.words()}"
    yield f"rule: {_rule(decision.bits, decision.why_bits)}, then the target's order {', '.join(told.order)}"
    place = 0
    for choice in sorted(decision.choices, key=lambda choice: not choice.eligible):
        place += choice.eligible
        yield f"{f'{place}.' if choice.eligible else '-':<3}{choice.name:<22} {_status(choice, decision.order)}"
        yield f"   {_figures(told.variants[choice.name], environment.memory_mb)}"
    if not decision.order:
        yield "nothing of this space can run here: opening ends with exit 2"
    else:
        yield "after that: opening ends with exit 3; no other space is taken unasked"
    if environment.cuda and all(shipped.device != "cuda" for shipped in told.variants.values()):
        yield "no shipped variant uses CUDA: all run on the CPU"
    machine = bundle.facts["measured_on"]["machine"] or {}
    if environment.flags is not None and not set(machine.get("flags", [])) <= environment.flags:
        yield f"speed-ups are from {machine.get('cpu', 'another CPU')}, which has instructions that this CPU lacks"


def _rule(bits: int, why: str) -> str:
    return f"any weights ({why})" if bits == FULL else f"weights of at most {bits} bits first ({why})"


def _status(choice: Choice, order: list[str]) -> str:
    if choice.obstacles:
        return f"no: {' and '.join(choice.obstacles)}"
    if not choice.same_space:
        return f"only by name: another space, an index of {order[0] if order else 'the first choice'} cannot serve it"
    place = order.index(choice.name)
    return "taken" if place == 0 else f"next, if {order[place - 1]} fails its self-test"


def _figures(shipped: Shipped, memory_mb: int | None) -> str:
    """Return what was measured, as far as the choice weighs it."""
    measured = shipped.facts["measured"]
    parts = [f"{shipped.kind}, {shipped.bits}-bit weights, {shipped.facts['size_mb']:g} MB"]
    if shipped.peak_rss_mb is not None:
        parts.append(f"peak {shipped.peak_rss_mb:g}{f' of {memory_mb}' if memory_mb else ''} MB")
    if speedups := measured["speedup"]:
        shown = sorted(speedups.items(), key=lambda item: int(item[0]))
        parts.append("speed-up " + ", ".join(f"{value:.2f}x at {tokens}" for tokens, value in shown) + " tokens")
    if kept := [it["of_baseline"] for it in measured["quality"].values() if "of_baseline" in it]:
        parts.append(f"quality {100 * min(kept):.1f} % of the baseline's or more")
    return "; ".join(parts)
