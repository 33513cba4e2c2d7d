"""Which of a repository's files a model needs: what sentence-transformers reads, in formats that cannot carry code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from embed_foundry.errors import InputError

from stages.commands.add_model.origin import Origin
from stages.common.sources.base_model.layout import INDEX, MODULES, TRANSFORMER, WEIGHTS, ModuleEntry, read_modules
from stages.common.sources.intake import PICKLES, read_object

CARD = "README.md"
# In the root of a model.
MODEL_FILES = (MODULES, "config_sentence_transformers.json")
# Beside the transformer's weights: its configuration, and its tokenizer in the forms that transformers reads.
TRANSFORMER_FILES = (
    "added_tokens.json",
    "config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_*_config.json",
    "*.model",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
# One of these says how texts become tokens; older models have no tokenizer.json.
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
# What changes the model where it stands beside it, so that it must be looked at, but no build takes.
ADAPTER = "adapter_config.json"
OTHERS = (ADAPTER, "chat_template.jinja")
# Modules without files of their own may have a folder all the same.
MODULE_FILES = ("config.json", WEIGHTS)


@dataclass(frozen=True)
class Selection:
    """The files of a model.

    Attributes:
        small: configuration and tokenizer.
        weights: files of tensors.
        others: what is only looked at.
    """

    small: tuple[str, ...]
    weights: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All files that a build takes, sorted."""
        return tuple(sorted((*self.small, *self.weights)))


def select_files(origin: Origin, stage: Path) -> Selection:
    """Return which files a model needs.

    Args:
        origin: where they are.
        stage: a folder to which the files go that say so, under their names.

    Raises:
        InputError: it is no SentenceTransformer, a module cannot be converted, or its weights are pickles only.
        IntegrityError: modules.json is broken or names code.
    """
    if MODULES not in origin.sizes:
        raise InputError(
            f"has no {MODULES}, so it is no SentenceTransformer: nothing says how token vectors become one vector. "
            "Open it with sentence-transformers, add the pooling that it was trained with, and save it to a folder."
        )
    place(origin, MODULES, stage)
    modules = read_modules(stage)
    small = [name for name in MODEL_FILES if name in origin.sizes]
    weights: list[str] = []
    for module in modules:
        patterns = TRANSFORMER_FILES if module is modules[0] else MODULE_FILES
        for name in _list_folder(origin, module.path, patterns):
            (weights if name.endswith(WEIGHTS) else small).append(name)
    transformer = modules[0].path
    if not list(_list_folder(origin, transformer, TOKENIZERS)):
        raise InputError(
            f"has no {_join(transformer, TOKENIZERS[0])} and no vocabulary, so no tokenizer. Get the whole model, or "
            "save its tokenizer beside it (tokenizer.save_pretrained)."
        )
    shards = list(_list_shards(origin, transformer, stage))
    for module in modules:
        _require_safetensors(origin, module, [*weights, *shards])
    index = [_join(transformer, INDEX)] if shards and _join(transformer, INDEX) in origin.sizes else []
    return Selection(
        small=tuple(sorted({*small, *index})),
        weights=tuple(sorted({*weights, *shards})),
        others=tuple(_list_folder(origin, transformer, OTHERS)),
    )


def place(origin: Origin, name: str, stage: Path) -> Path:
    """Put a file's bytes under its name into a folder, as a link to them."""
    path = stage / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(origin.read(name).resolve())
    return path


def _list_folder(origin: Origin, folder: str, patterns: Sequence[str]) -> Iterator[str]:
    for name in origin.sizes:
        path = PurePosixPath(name)
        if path.parent == PurePosixPath(folder) and any(fnmatchcase(path.name, pattern) for pattern in patterns):
            yield name


def _list_shards(origin: Origin, transformer: str, stage: Path) -> Iterator[str]:
    """Yield the transformer's files of weights: one, or those that the index names."""
    whole, index = _join(transformer, WEIGHTS), _join(transformer, INDEX)
    if whole in origin.sizes:
        yield whole
    elif index in origin.sizes:
        names = read_object(place(origin, index, stage)).get("weight_map", {})
        if not isinstance(names, dict) or not names:
            raise InputError(f"{index} names no weights. Save the model again with sentence-transformers.")
        for name in sorted({_join(transformer, str(name)) for name in names.values()}):
            if name not in origin.sizes:
                raise InputError(f"lacks {name}, which {index} names. Get the whole model.")
            yield name


def _require_safetensors(origin: Origin, module: ModuleEntry, weights: list[str]) -> None:
    if any(PurePosixPath(name).parent == PurePosixPath(module.path) for name in weights):
        return
    pickles = [
        name
        for name in origin.sizes
        if PurePosixPath(name).parent == PurePosixPath(module.path) and PurePosixPath(name).suffix in PICKLES
    ]
    if pickles:
        raise InputError(
            f"has its weights as pickles only ({pickles[0]}), expected {_join(module.path, WEIGHTS)}: loading a pickle "
            "can run code. Open the model with sentence-transformers where you trust it, and save it again; on the "
            "hub, look for a branch with safetensors (--revision refs/pr/NUMBER)."
        )
    if _join(module.path, ADAPTER) in origin.sizes:
        raise InputError(
            f"is an adapter ({ADAPTER}), expected a model's own weights. Merge it (PeftModel.merge_and_unload), and "
            "save the whole model."
        )
    if module.kind == TRANSFORMER:
        raise InputError(f"has no {_join(module.path, WEIGHTS)}. Get the whole model.")


def _join(folder: str, name: str) -> str:
    return (PurePosixPath(folder) / name).as_posix()
