"""Names of prompts: those that a model saved, and those that mteb asks for, which are the ones that variants carry."""

import json
from collections.abc import Iterable, Mapping

from embed_foundry.errors import InputError

# mteb's prompt types; the names that it asks for beside these are its task types, task names, and either with
# "-query" or "-document" behind it.
PROMPT_TYPES = ("query", "document")
# What sentence-transformers' encode_document looks for beside "document".
SYNONYMS = {"passage": "document", "corpus": "document"}


def check_prompts(own: Mapping[str, str], configured: Mapping[str, str], option: str) -> None:
    """Check that a configuration names its prompts as mteb does, and leaves none of the model's own out unsaid.

    Args:
        own: the model's prompts, name -> text.
        configured: model.prompts; an empty text says that there is to be none.
        option: name of the option in conf/model that holds them.

    Raises:
        InputError: with the lines to write.
    """
    known = _find_known({*own, *configured} - SYNONYMS.keys())
    expected = name_for_mteb(own)
    unknown = sorted(set(configured) - known)
    missing = sorted(set(expected) - set(configured))
    if not unknown and not missing and (configured or not own):
        return
    facts = []
    if unknown:
        facts.append(f"model.prompts has {_quote(unknown)}, which mteb never asks for")
    if missing or not configured:
        absent = _quote(missing) if missing else "all of them"
        facts.append(f"the model has prompts {_quote(own)}, and model.prompts lacks {absent}")
    kept = {SYNONYMS.get(name, name): text for name, text in configured.items() if SYNONYMS.get(name, name) in known}
    proposed = expected | kept or {PROMPT_TYPES[0]: next(iter({**configured, **own}.values()))}
    lines = ", ".join(f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in proposed.items())
    raise InputError(
        f"{'; '.join(facts)}. mteb asks for query, document, a task's type or a task's name, and variants carry the "
        f"same names. Write in conf/model/{option}.yaml: prompts: {{{lines}}}. An empty text stands for none."
    )


def name_for_mteb(own: Mapping[str, str]) -> dict[str, str]:
    """Return those of a model's prompts that mteb asks for, under its names."""
    known = _find_known({*own} - SYNONYMS.keys())
    named = {SYNONYMS.get(name, name): text for name, text in own.items()}
    # A prompt that the model itself calls "document" wins over its "passage".
    return {name: own.get(name, text) for name, text in named.items() if name in known}


def _quote(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _find_known(names: set[str]) -> set[str]:
    """Return those names that mteb asks for, and its prompt types."""
    if names <= set(PROMPT_TYPES):
        return set(PROMPT_TYPES)
    from mteb.models.abs_encoder import AbsEncoder

    known, _ = AbsEncoder.validate_task_to_prompt_name(dict.fromkeys(names, ""), raise_for_invalid_keys=False)
    return {*(known or ()), *PROMPT_TYPES}
