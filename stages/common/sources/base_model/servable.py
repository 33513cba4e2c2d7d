"""Whether a base model can become variants as configured: what it is, read once, beside conf/model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from embed_foundry.errors import InputError, IntegrityError

from stages.common.config import Model
from stages.common.sources.base_model.files import check_files
from stages.common.sources.base_model.loaded import LoadedModel
from stages.common.sources.base_model.prompts import check_prompts

IN_A_COPY = "in config_sentence_transformers.json of a copy (model.source=folder)"


def check_model(folder: Path, model: Model, tell: Callable[[list[str]], None]) -> LoadedModel:
    """Load a base model as sentence-transformers does and return what it is.

    Args:
        folder: its files, each checked to be data only.
        model: its configuration.
        tell: gets the lines that say what the model is, before anything of it is refused.

    Raises:
        IntegrityError: a part is missing, names code, or is broken.
        InputError: it cannot be loaded, or variants could not compute what it computes; the message names every reason.
    """
    with name_model(folder, model.repo):
        check_files(folder)
        from stages.common.sources.base_model.quiet import silence_libraries
        from stages.common.sources.base_model.reading import read_model

        loaded = read_model(folder)
        tell(loaded.describe(model))
    with silence_libraries():
        check_settings(loaded, model)
    return loaded


@contextmanager
def name_model(folder: Path, label: str, kind: type[InputError] | None = None) -> Iterator[None]:
    """Let errors name the model in place of the folder, which is a stage's, and gone when the error is read.

    Args:
        folder: the folder.
        label: how messages name the model.
        kind: what every error becomes; None keeps what it is.
    """
    try:
        yield
    except (InputError, IntegrityError) as error:
        text = str(error).replace(f"{folder}/", "").replace(str(folder), "the folder")
        raise (kind or type(error))(f"{label}: {text}") from None


def check_settings(loaded: LoadedModel, model: Model) -> None:
    """Compare what a model is with its configuration, and with what variants compute.

    Raises:
        InputError: they differ; the message names every reason.
    """
    if reasons := [reason for rule in RULES if (reason := rule(loaded, model))]:
        raise InputError(f"{model.repo}: {' Also: '.join(reasons)}")


def _compare_dimensions(loaded: LoadedModel, model: Model) -> str:
    if loaded.dimensions == model.dimensions:
        return ""
    longer = [length for length in model.matryoshka if length > loaded.dimensions]
    also = f", and take {', '.join(map(str, longer))} out of model.matryoshka" if longer else ""
    return (
        f"model.dimensions is {model.dimensions}, but its vectors have length {loaded.dimensions}. Set "
        f"model.dimensions={loaded.dimensions}{also}, or take the files of the configured model."
    )


def _compare_tokens(loaded: LoadedModel, model: Model) -> str:
    most = loaded.limit.tokens
    if most is not None and model.max_tokens > most:
        return (
            f"model.max_tokens is {model.max_tokens}, but it has positions for {most} tokens. Set model.max_tokens to "
            f"at most {most}."
        )
    if model.max_tokens <= loaded.vocabulary.special:
        return (
            f"model.max_tokens is {model.max_tokens}, but {loaded.vocabulary.special} special tokens go into every "
            f"text. Set model.max_tokens to at least {loaded.vocabulary.special + 1}."
        )
    return ""


def _check_similarity(loaded: LoadedModel, _: Model) -> str:
    """Variants give unit vectors. Of these, cosine, dot product and Euclidean distance give one ranking.

    For unit vectors the dot product is the cosine, and |a - b|^2 = 2 - 2 cos. A model without unit norm ranks otherwise
    by dot product or distance, and the Manhattan distance follows from neither.
    """
    if loaded.similarity == "cosine" or (loaded.unit_norm and loaded.similarity in {"dot", "euclidean"}):
        return ""
    norms = "unit" if loaded.unit_norm else "any"
    return (
        f"it compares vectors of {norms} norm by {loaded.similarity} (similarity_fn_name); variants give vectors of "
        f"unit norm, compared by cosine, which ranks texts differently. If cosine is right for your use, set "
        f'"similarity_fn_name": "cosine" {IN_A_COPY}; or choose another model.'
    )


def _check_default_prompt(loaded: LoadedModel, _: Model) -> str:
    if not loaded.default_prompt or not loaded.prompts.get(loaded.default_prompt):
        return ""
    return (
        f"its default_prompt_name is {loaded.default_prompt!r}, which sentence-transformers puts before every text "
        "for which no prompt is named; variants add a prompt only by name. Set "
        f'"default_prompt_name": null {IN_A_COPY}, and name the prompt in each call.'
    )


def _check_truncated_vectors(loaded: LoadedModel, model: Model) -> str:
    if loaded.truncate_dim is None or loaded.truncate_dim >= loaded.dimensions:
        return ""
    return (
        f"its truncate_dim is {loaded.truncate_dim}, so sentence-transformers gives shorter vectors than its modules, "
        f"{loaded.dimensions}; variants give whole ones, and shorter ones on request. Set "
        f'"truncate_dim": null {IN_A_COPY}, and put {loaded.truncate_dim} into model.matryoshka (now '
        f"{model.matryoshka})."
    )


def _check_prompts(loaded: LoadedModel, model: Model) -> str:
    try:
        check_prompts(loaded.prompts, model.prompts, model.name)
    except InputError as error:
        return str(error)
    return ""


RULES: tuple[Callable[[LoadedModel, Model], str], ...] = (
    _compare_dimensions,
    _compare_tokens,
    _check_similarity,
    _check_default_prompt,
    _check_truncated_vectors,
    _check_prompts,
)
