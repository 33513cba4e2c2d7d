"""What a client's `model` means: a variant, an alias, the model itself or "auto"; a prompt's name may follow."""

from collections.abc import Mapping
from dataclasses import dataclass

from .. import selection
from ..contract import Contract
from ..environment import Environment
from .refusals import UNKNOWN_MODEL, RefusalError
from .requests import AUTO

# Clients of Ollama's API put it after a name that has no tag.
LATEST = "latest"


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Attributes:
        order: variants in the order in which they are tried; all of one vector space.
        skipped: why variants that come before them cannot run here.
        prompt: the prompt that the name asks for; None if it names none.
    """

    order: tuple[str, ...]
    skipped: tuple[str, ...]
    prompt: str | None


def resolve(
    name: str, contract: Contract, environment: Environment, aliases: Mapping[str, str], prompts: frozenset[str]
) -> Named:
    """Return the variants that a client's `model` stands for.

    A variant that is asked for by name comes first; the others of its space follow, in the order of the selection rule,
    should it fail. "auto", the model's name and its last part ("all-MiniLM-L6-v2") take the rule's own order.

    Args:
        name: as the client sent it.
        contract: the served release's.
        environment: this host.
        aliases: other names of variants.
        prompts: names of the model's prompts.

    Raises:
        RefusalError: unknown_model.
    """
    stem, _, tag = name.rpartition(":") if ":" in name else (name, "", "")
    prompt = tag if tag in prompts else None
    base = stem if prompt or tag == LATEST else name
    base = aliases.get(base, base)
    decision = selection.decide(contract, environment)
    if base in (AUTO, contract.model):
        return Named(tuple(decision.order), tuple(decision.list_skipped()), prompt)
    if base not in contract.variants:
        known = ", ".join([AUTO, contract.model, *contract.order, *sorted(aliases)])
        raise RefusalError(UNKNOWN_MODEL, f"model {name!r} is unknown here; this release has {known}.", "model")
    space = contract.variants[base].space_id
    runs = [choice.name for choice in decision.choices if not choice.obstacles]
    others = [variant for variant in runs if variant != base and contract.variants[variant].space_id == space]
    return Named((base, *others), (), prompt)
