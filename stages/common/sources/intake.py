"""Checks of a base model's files: weights and configuration only, nothing that runs code.

Loading a model can run code in four ways: Python files, `auto_map` (transformers imports what it names), a module type
or activation that sentence-transformers imports by name, and pickles. Each is refused before anything loads the model.
Only an `auto_map` of classes that transformers has itself may stay: models are older than their place in transformers,
and nothing here lets it run code (`trust_remote_code` is false).
"""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embed_foundry.errors import IntegrityError

JsonValue = Any
JsonObject = dict[str, Any]
CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")
PICKLES = (".bin", ".ckpt", ".h5", ".joblib", ".msgpack", ".pickle", ".pkl", ".pt", ".pth")
# First bytes of pickles (protocol 2 and later) and of zip archives, torch's container of pickles.
PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"PK\x05\x06")
# Keys by which a configuration makes transformers import code.
CODE_MAP = "auto_map"
CODE_KEYS = (CODE_MAP, "custom_pipelines", "trust_remote_code")
# Entries of `auto_map` that loading a text encoder reads.
LOADED_CLASSES = ("AutoConfig", "AutoModel", "AutoProcessor", "AutoTokenizer")
ACTIVATION = re.compile(r"torch\.nn(\.[A-Za-z_]\w*)+")
REFETCH = "Get the file again from its source."


def check_folder(folder: Path) -> None:
    """Refuse a user's folder with code, pickles, or links that leave it, even in files that are not configured.

    Raises:
        IntegrityError: "unexpected code", naming the file.
    """
    for path in sorted(folder.rglob("*")):
        check_link(path, folder)
        suffix = path.suffix.lower()
        if suffix in CODE:
            raise unexpected_code_error(path, f"a {suffix} file")
        if suffix in PICKLES:
            raise unexpected_code_error(path, f"a {suffix} file, which can be a pickle, and loading a pickle runs code")
        if path.is_file() and _is_config(path):
            _check_config(path)


def check_link(path: Path, root: Path) -> None:
    """Refuse a link that leaves the model's folder.

    Raises:
        IntegrityError: naming the link.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise IntegrityError(
            f"{path}: is a link that leaves the model folder, expected a file in it. "
            "Make a copy with real files (cp -rL) and set model.source=folder model.folder=COPY."
        )


def check_file(path: Path) -> None:
    """Refuse a file that is not in the format of its suffix, or that makes a loader import code.

    Raises:
        IntegrityError: naming the file.
    """
    if path.suffix == ".safetensors":
        _check_safetensors(path)
        return
    _refuse_pickle(path)
    if path.suffix == ".json":
        read_json(path)
        if _is_config(path):
            _check_config(path)
    elif path.suffix == ".txt":
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{path}: is not UTF-8 text ({error}). {REFETCH}") from None


def read_json(path: Path) -> JsonValue:
    """Return a JSON file's value.

    Raises:
        IntegrityError: missing, or not JSON.
    """
    if not path.is_file():
        raise IntegrityError(f"{path}: missing; every SentenceTransformer model has it. List it in model.files.")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: is not JSON ({error}). {REFETCH}") from None


def read_object(path: Path) -> JsonObject:
    """Return a JSON file's object.

    Raises:
        IntegrityError: missing, not JSON, or not an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected a JSON object. {REFETCH}")
    return value


def list_named_classes(value: JsonValue) -> list[str]:
    """Return the classes that `auto_map` names anywhere in a configuration, of those that a text encoder loads."""
    maps = [entry for key, entry in _iterate_entries(value) if key == CODE_MAP and isinstance(entry, dict)]
    references = [entry[key] for entry in maps for key in LOADED_CLASSES if entry.get(key)]
    names = [name for entry in references for name in (entry if isinstance(entry, list) else [entry]) if name]
    return [str(name).rpartition(".")[2] for name in names]


def unexpected_code_error(path: Path, code: str) -> IntegrityError:
    """Return the error for a file that would run code."""
    return IntegrityError(
        f"{path}: unexpected code: {code}. A base model is weights and configuration only. Save the model as "
        "safetensors into a new folder (SentenceTransformer.save_pretrained), or choose a source without such files."
    )


def _check_safetensors(path: Path) -> None:
    """Check the header: the library finds truncation, trailing bytes and overlaps, but accepts duplicate keys."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        _refuse_pickle(path)  # only now: the header length of a valid file can begin with the same bytes
        raise IntegrityError(f"{path}: is not a whole safetensors file ({error}). {REFETCH}") from None
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    try:
        json.loads(header, object_pairs_hook=_require_unique_keys)
    except ValueError as error:
        raise IntegrityError(f"{path}: has a faulty header ({error}). {REFETCH}") from None


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4).startswith(PICKLE_STARTS):
            raise unexpected_code_error(path, f"a pickle or a zip archive under the name of a {path.suffix} file")


def _require_unique_keys(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    keys = [key for key, _ in pairs]
    if duplicates := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"duplicate key {duplicates[0]!r}")
    return dict(pairs)


def _check_config(path: Path) -> None:
    for key, value in _iterate_entries(read_json(path)):
        if key == CODE_MAP and _names_only_own_classes(value):
            continue
        if key in CODE_KEYS and value:
            raise unexpected_code_error(path, f"the key {key!r}, by which loading the model imports code")
        # sentence-transformers' Dense imports a dotted name; transformers' activations have plain names.
        if key == "activation_function" and "." in str(value) and not ACTIVATION.fullmatch(str(value)):
            raise unexpected_code_error(path, f"activation {value!r}, which is not one of torch.nn")


def _names_only_own_classes(value: JsonValue) -> bool:
    """Return whether transformers has all classes of an `auto_map` itself, under the same names."""
    names = list_named_classes({CODE_MAP: value})
    return bool(names) and _list_transformers_names().issuperset(names)


@functools.cache
def _list_transformers_names() -> frozenset[str]:
    """Return what transformers exports; it takes half a second to list them."""
    import transformers

    return frozenset(dir(transformers))


def _is_config(path: Path) -> bool:
    """Return whether a file is a configuration; in a vocabulary, any word may be a key."""
    return path.suffix == ".json" and "config" in path.name


def _iterate_entries(value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    """Yield every key and value of a JSON value, at any depth."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield from item.items()
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
