"""What conf/model is to say about a model: read from its files, without its weights."""

from dataclasses import dataclass
from pathlib import Path

from embed_foundry.errors import InputError

from stages.commands.add_model.card import Card, read_card
from stages.commands.add_model.origin import Origin
from stages.commands.add_model.selection import CARD, Selection, place, select_files
from stages.common.config import License
from stages.common.sources import intake
from stages.common.sources.base_model.files import check_files
from stages.common.sources.base_model.layout import find_transformer
from stages.common.sources.base_model.loaded import LoadedModel
from stages.common.sources.base_model.prompts import name_for_mteb
from stages.common.sources.base_model.servable import name_model

# Keys of config.json under which models name their Matryoshka lengths.
LENGTH_KEYS = ("matryoshka_dimensions", "matryoshka_dims")
# For a model that any length of text fits into: what most models of this kind are trained with.
MOST_TOKENS = 512


@dataclass(frozen=True)
class Proposal:
    """A model as a new option of conf/model describes it, but for its name and where it is.

    Attributes:
        loaded: what it is.
        pins: file name -> SHA-256.
        license: its licence.
        languages: codes of the languages it was trained for; [] if its card names none.
        matryoshka: lengths of vectors, the full one first.
        trained_lengths: whether the card or the configuration names them.
        max_tokens: the longest input.
        prompts: under the names that mteb asks for.
        unused_prompts: the model's other prompts.
    """

    loaded: LoadedModel
    pins: dict[str, str]
    license: License
    languages: list[str]
    matryoshka: list[int]
    trained_lengths: bool
    max_tokens: int
    prompts: dict[str, str]
    unused_prompts: dict[str, str]


def read_proposal(origin: Origin, label: str, page: str | None, stage: Path) -> Proposal:
    """Read what a model is.

    Args:
        origin: where its files are.
        label: how messages name it.
        page: its address, for a licence whose text has none of its own; None if it has no page.
        stage: an empty folder to work in.

    Raises:
        InputError: it is no model that can be converted; the message says why.
        IntegrityError: the hub sends wrong bytes.
        RemoteError: gated, forbidden.
        RetryableError: the hub stays unavailable after bounded retries.
    """
    with name_model(stage, label, InputError):
        files = select_files(origin, stage)
    for name in sorted((*files.small, *files.others), key=lambda name: origin.sizes[name]):
        place(origin, name, stage)
    with name_model(stage, label, InputError):
        for name in files.weights:
            _place_outline(origin, name, stage)
        for name in files.small:
            intake.check_file(stage / name)
        check_files(stage)
        loaded = _load(stage)
    card = read_card(origin.read(CARD) if CARD in origin.sizes else None)
    return _propose(origin, files, loaded, card, page, stage)


def _propose(
    origin: Origin, files: Selection, loaded: LoadedModel, card: Card, page: str | None, stage: Path
) -> Proposal:
    from stages.common.sources.base_model.quiet import silence_libraries

    lengths = card.lengths or _read_lengths(find_transformer(stage) / "config.json")
    shorter = sorted({length for length in lengths if 0 < length < loaded.dimensions}, reverse=True)
    with silence_libraries():
        prompts = name_for_mteb(loaded.prompts)
    used = set(prompts.values())
    return Proposal(
        loaded=loaded,
        pins={name: origin.pin(name) for name in files.names},
        license=card.license(page, gated=origin.gated),
        languages=card.languages,
        matryoshka=[loaded.dimensions, *shorter],
        trained_lengths=bool(shorter),
        max_tokens=min(filter(None, (loaded.limit.tokens, loaded.max_seq_length)), default=MOST_TOKENS),
        # A model with prompts of which mteb asks for none takes an empty one, which says that none is meant.
        prompts=prompts or ({"query": ""} if loaded.prompts else {}),
        unused_prompts={name: text for name, text in loaded.prompts.items() if text not in used},
    )


def _load(stage: Path) -> LoadedModel:
    from stages.commands.add_model.weightless import count_weights, load_without_weights, zeros_for_weights
    from stages.common.sources.base_model.quiet import silence_libraries
    from stages.common.sources.base_model.reading import read_model

    with silence_libraries():
        model = load_without_weights(stage)
    with zeros_for_weights():
        loaded = read_model(stage, lambda _: model, count_weights)
    # The norm of zeros says nothing; a module that normalises does.
    return loaded.model_copy(update={"unit_norm": loaded.modules[-1] == "Normalize"})


def _place_outline(origin: Origin, name: str, stage: Path) -> None:
    """Write a file of weights without its numbers: a hole that takes no space on the disk, and reads as zeros."""
    outline, path = origin.outline(name), stage / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(outline.header)
        file.truncate(outline.size)


def _read_lengths(path: Path) -> list[int]:
    config = intake.read_object(path)
    lengths: list[object] = next((config[key] for key in LENGTH_KEYS if isinstance(config.get(key), list)), [])
    return [length for length in lengths if isinstance(length, int)]
