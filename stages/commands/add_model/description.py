"""The text of a new option of conf/model: its values, and the comments that say when to change them."""

import json
import re
import shlex
import textwrap
from dataclasses import dataclass

import yaml

from stages.commands.add_model.proposal import Proposal
from stages.common.sources.base_model.prompts import SYNONYMS

WIDTH = 120
NO_BREAK = "\N{NO-BREAK SPACE}"
# Languages that the first comment names; of more it gives the number.
SHOWN_LANGUAGES = 6


@dataclass(frozen=True)
class Place:
    """Where a model's files come from.

    Attributes:
        repo: its name on the hub, or a folder's name.
        revision: 40 hex digits.
        folder: the folder, None for the hub.
    """

    repo: str
    revision: str
    folder: str | None = None


APP_PROMPTS = (
    "# Task of an Android app -> text before an input, where no prompt is meant for it; see embeddinggemma_300m.yaml.",
    "app_prompts: {}",
)


def describe(name: str, place: Place, proposal: Proposal) -> str:
    """Return the YAML text."""
    sections = (
        _describe_head(name, place, proposal),
        _describe_place(place),
        _describe_files(proposal),
        _describe_license(place, proposal),
        _describe_lengths(proposal),
        _describe_tokens(proposal),
        _describe_prompts(proposal),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _describe_head(name: str, place: Place, proposal: Proposal) -> list[str]:
    loaded = proposal.loaded
    pooling = f"{' + '.join(loaded.pooling.modes)} pooling, " if loaded.pooling else ""
    facts = (
        f"{place.repo}: {loaded.architecture}, {loaded.weights.parameters / 1e6:,.1f} million parameters, "
        f"{loaded.dimensions} dimensions, {pooling}{proposal.max_tokens} tokens{_describe_languages(proposal)}."
    )
    command = f"embed-foundry add-model {shlex.quote(place.folder or place.repo)}"
    return [
        *_comment(facts),
        *_comment(f"Written by `{command}`. Change what you know better; a second run refuses to overwrite it."),
        f"name: {name}",
    ]


def _describe_languages(proposal: Proposal) -> str:
    languages = proposal.languages
    if not languages:
        return ""
    return f"; {', '.join(languages)}" if len(languages) <= SHOWN_LANGUAGES else f"; {len(languages)} languages"


def _describe_place(place: Place) -> list[str]:
    commit = (
        "A digest of the files' pins, in place of a commit: a folder has none."
        if place.folder
        else "Commit of the hub repository (40 hex digits); branches and short hashes are refused, because they move."
    )
    return [
        "# Where files come from: package (an installed module), hub (Hugging Face or HF_ENDPOINT), folder "
        "(model.folder=PATH).",
        f"source: {'folder' if place.folder else 'hub'}",
        "# Name on the hub, recorded in every variant and in the bundle.",
        f"repo: {_quote(place.repo)}",
        f"# {commit}",
        f"revision: {_quote(place.revision)}",
        "# Only for source=package; no known package carries this model.",
        "package: null",
        "# Only for source=folder: your SentenceTransformer folder.",
        f"folder: {_quote(place.folder) if place.folder else 'null'}",
    ]


def _describe_files(proposal: Proposal) -> list[str]:
    return [
        "# File name -> SHA-256. No other file is taken from the source. null: not pinned; the hub's own digest is "
        "checked.",
        "files:",
        *(f"  {_quote(name)}: {_quote(pin)}" for name, pin in sorted(proposal.pins.items())),
    ]


def _describe_license(place: Place, proposal: Proposal) -> list[str]:
    licence = proposal.license
    unknown = licence.name == "not specified"
    return [
        *(["# No card names a licence. Ask the model's author, and set both."] if unknown else []),
        "license:",
        f"  name: {_quote(licence.name)}",
        f"  url: {_quote(licence.url)}",
        "  # true: the hub requires you to accept the licence first, so download needs HF_TOKEN.",
        f"  gated: {'true' if licence.gated else 'false'}",
    ]


def _describe_lengths(proposal: Proposal) -> list[str]:
    if proposal.trained_lengths:
        comment = "Vector lengths that it was trained for. Remove those that your indexes do not use; each costs "
        comment += "another evaluation."
    else:
        comment = "Vector lengths to evaluate. Neither card nor configuration names any but the full one. Add shorter "
        full = proposal.loaded.dimensions
        comment += f"ones, such as [{full},{NO_BREAK}{full // 2}], and the report shows what they cost."
    return [
        "# How many weights it has. compose says by it which absolute limits of a target are out of reach.",
        f"parameters: {proposal.loaded.weights.parameters}",
        "# Length of a full vector.",
        f"dimensions: {proposal.loaded.dimensions}",
        *_comment(comment),
        f"matryoshka: {proposal.matryoshka}",
    ]


def _describe_tokens(proposal: Proposal) -> list[str]:
    limit, length = proposal.loaded.limit, proposal.loaded.max_seq_length
    own = f"sentence-transformers truncates at {length}" if length else "sentence-transformers truncates nowhere"
    comment = (
        "Longest input in tokens; longer ones are truncated and reported. Lower it to bound the latency of long "
        f"inputs. The model takes {limit.describe()}; {own}."
    )
    return [*_comment(comment), f"max_tokens: {proposal.max_tokens}"]


def _describe_prompts(proposal: Proposal) -> list[str]:
    comment = "Prompt name -> text before an input; names are mteb's prompt and task types."
    own = proposal.loaded.prompts
    renamed = [name for name in SYNONYMS if name in own and SYNONYMS[name] not in own]
    if not own:
        comment += " The model has none."
    else:
        comment += " These are the model's own; changing one changes the vector space."
    if renamed:
        comment += f" The model calls {SYNONYMS[renamed[0]]} {renamed[0]}."
    lines = _comment(comment)
    if proposal.unused_prompts:
        lines += _comment("mteb does not ask for the model's other prompts. Give one of them to query or document:")
        lines += [f"#   {_quote(name)}: {_quote(text)}" for name, text in proposal.unused_prompts.items()]
    if not proposal.prompts:
        return [*lines, "prompts: {}", *APP_PROMPTS]
    prompts = [f"  {_quote(name)}: {_quote(text)}" for name, text in proposal.prompts.items()]
    return [*lines, "prompts:", *prompts, *APP_PROMPTS]


def _comment(text: str) -> list[str]:
    """Return a comment in lines of the usual width."""
    lines = textwrap.wrap(
        text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(NO_BREAK, " ") for line in lines]


def _quote(text: str) -> str:
    """Return a string as YAML reads it: as it is where it is plain, else in double quotes, which JSON writes alike."""
    plain = re.fullmatch(r"[A-Za-z0-9_./:-]([\w ./:+-]*[\w./+-])?", text) and ": " not in text
    if plain and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
