"""conf/choices.yaml: what `embed-foundry compose` chose, as the config from which `dvc exp run` starts.

`dvc exp run` composes conf/ anew and overwrites params.yaml. .dvc/config names this file as its primary config, so that
the choices stay; `-S` comes on top of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stages.common.config import overrides

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

NAME = "choices"
# The config that lists all groups.
ROOT = "config"
_HEADER = "# What `embed-foundry compose` chose; `dvc exp run` starts from it, and its -S come on top. Generated.\n# "
_WHOLE = "# The whole configuration, since Hydra's defaults cannot leave out a key. -S changes values, but no group.\n"


def dump(texts: Sequence[str], quoted: Sequence[str], conf: Path) -> bytes:
    """Return the file for overrides, as options of groups and values.

    Args:
        texts: as a user wrote them; the file's second line repeats them.
        quoted: the same, as `quote_for_hydra` returns them.
        conf: the folder of config groups.
    """
    defaults: list[object] = [ROOT]
    values: dict[str, Any] = {}
    for override in map(overrides.parse, quoted):
        if _is_option(override, conf):
            key = f"/{override.get_key_element().lstrip('+~')}"
            defaults.append({key if override.is_add() else f"override {key}": override.value()})
        elif not override.is_delete():
            *parents, name = override.key_or_group.split(".")
            node = values
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = override.value()
    return _dump(texts, "", {"defaults": [*defaults, "_self_"], **values})


def dump_whole(texts: Sequence[str], composed: bytes) -> bytes:
    """Return the file for overrides that options and values cannot express, such as a deletion.

    Args:
        texts: as a user wrote them.
        composed: the composition, as params.yaml has it.
    """
    escaped = {key: _escape(value) for key, value in yaml.safe_load(composed).items()}
    return _dump(texts, _WHOLE, {"defaults": ["_self_"], **escaped})


def is_whole(path: Path) -> bool:
    """Return whether the file holds a whole configuration instead of options and values."""
    return path.is_file() and _WHOLE.encode() in path.read_bytes()


def read_command(path: Path) -> str:
    """Return the command that wrote the file; "" if there is none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return lines[1].removeprefix("# ") if len(lines) > 1 else ""


def command(texts: Sequence[str]) -> str:
    """Return the command line of overrides, as a shell takes it."""
    return " ".join(["embed-foundry compose", *map(overrides.shell_word, texts)])


def _dump(texts: Sequence[str], comment: str, body: dict[str, Any]) -> bytes:
    from omegaconf import OmegaConf

    content: str = OmegaConf.to_yaml(OmegaConf.create(body))
    return f"{_HEADER}{command(texts)}\n{comment}{content}".encode()


def _is_option(override: "Override", conf: Path) -> bool:
    """Return whether an override chooses an option of a group, as Hydra decides it."""
    return (conf / override.key_or_group).is_dir() and not isinstance(override.value(), dict)


def _escape(value: object) -> object:
    """Return a JSON value in which `${` is no interpolation."""
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return overrides.escape(value) if isinstance(value, str) else value
