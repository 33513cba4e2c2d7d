"""What may enter as a base model: weights and configuration that nothing executes.

Loading a model can run code in four ways: Python files, `auto_map` (transformers imports what it names), a module type
or activation that sentence-transformers imports by name, and pickles. Each is refused before anything loads the model.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embed_foundry.errors import IntegrityError

CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")
PICKLES = (".bin", ".ckpt", ".h5", ".joblib", ".msgpack", ".pickle", ".pkl", ".pt", ".pth")
# How pickles (protocol 2 and later) and zip archives, torch's container of pickles, begin.
PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"PK\x05\x06")
# Keys by which a configuration makes transformers import code.
CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
ACTIVATION = re.compile(r"torch\.nn(\.[A-Za-z_]\w*)+")
AGAIN = "Get the file again from its source."


def check_folder(folder: Path) -> None:
    """Refuse a user's folder that holds code, pickles, or links that leave it, whether or not they would be taken.

    Raises:
        IntegrityError: "unexpected code", naming the file.
    """
    for path in sorted(folder.rglob("*")):
        check_link(path, folder)
        suffix = path.suffix.lower()
        if suffix in CODE:
            raise unexpected(path, f"a {suffix} file")
        if suffix in PICKLES:
            raise unexpected(path, f"a {suffix} file, which can be a pickle, and loading a pickle runs code")
        if path.is_file() and _is_config(path):
            _check_config(path)


def check_link(path: Path, root: Path) -> None:
    """Refuse a link that leads out of the model's folder.

    Raises:
        IntegrityError: naming the link.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise IntegrityError(
            f"{path}: is a link that leaves the model folder, so its target is not the folder's to vouch for. "
            "Make a copy with real files (cp -rL) and use model.source=folder model.folder=COPY."
        )


def check_file(path: Path) -> None:
    """Refuse a file that is not what its name says, or that makes a loader import code.

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
            raise IntegrityError(f"{path}: is not UTF-8 text ({error}). {AGAIN}") from None


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON file's value.

    Raises:
        IntegrityError: missing, or not JSON.
    """
    if not path.is_file():
        raise IntegrityError(f"{path}: missing, a SentenceTransformer model has it. List it in model.files.")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: is not JSON ({error}). {AGAIN}") from None


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON file's object.

    Raises:
        IntegrityError: missing, not JSON, or not an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected a JSON object. {AGAIN}")
    return value


def unexpected(path: Path, what: str) -> IntegrityError:
    """Return the error for a file that would run code."""
    return IntegrityError(
        f"{path}: unexpected code: {what}. A base model is weights and configuration only. Save the model as "
        "safetensors into a new folder (SentenceTransformer.save_pretrained), or choose a source without such files."
    )


def _check_safetensors(path: Path) -> None:
    """Check the whole header: the library finds truncation, trailing bytes, overlaps; it lets duplicate keys pass."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        _refuse_pickle(path)  # only now: the length of a sound header can begin with the same bytes
        raise IntegrityError(f"{path}: is not a whole safetensors file ({error}). {AGAIN}") from None
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    try:
        json.loads(header, object_pairs_hook=_no_duplicates)
    except ValueError as error:
        raise IntegrityError(f"{path}: has a faulty header ({error}). {AGAIN}") from None


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4).startswith(PICKLE_STARTS):
            raise unexpected(path, f"a pickle or a zip archive under the name of a {path.suffix} file")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return found


def _check_config(path: Path) -> None:
    for key, value in _entries(read_json(path)):
        if key in CODE_KEYS and value:
            raise unexpected(path, f"the key {key!r}, by which loading the model imports code")
        # sentence-transformers' Dense imports a dotted name; transformers' own activations are plain names.
        if key == "activation_function" and "." in str(value) and not ACTIVATION.fullmatch(str(value)):
            raise unexpected(path, f"activation {value!r}, which is not one of torch.nn")


def _is_config(path: Path) -> bool:
    """Whether a file is one of the configurations: vocabularies may hold any word as a key."""
    return path.suffix == ".json" and "config" in path.name


def _entries(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any JSON value
    """Yield every key and value of a JSON value, at any depth."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
