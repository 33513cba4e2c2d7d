"""compose: conf/ plus overrides -> params.yaml, byte-equal to what `dvc exp run -S …` writes. Not a DVC stage.

In: conf/. Out: params.yaml, and conf/choices.yaml, from which `dvc exp run` starts. Fails: 2 unknown option, key or
value, with the valid ones listed; drift with --check.
"""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import yaml
from embed_foundry.errors import InputError
from embed_foundry.output.folder import replace_file
from pydantic import TypeAdapter

from stages.common import config
from stages.common.config import Params, choices
from stages.common.config.overrides import list_hints, list_unescaped, quote_for_hydra
from stages.common.config.suite import BuiltinSuite, HubSuite, Suite
from stages.common.limits.reach import find_unmeasured, find_unreachable
from stages.common.sources.suite_files import BUILTIN_LAYOUTS

CONF = Path("conf")


def compose(overrides: Sequence[str], conf: Path = CONF, name: str = choices.ROOT) -> bytes:
    """Return the composed and validated configuration as the bytes of params.yaml.

    Args:
        overrides: such as `target=railway_cpu` or `variant=[fp32,static]`; a plain text needs no quotes of Hydra's.
        conf: the folder of config groups.
        name: the primary config in it.

    Raises:
        InputError: Hydra or the schema refuses it, or it names what does not exist; the message lists the options.
    """
    if not (conf / f"{name}.yaml").is_file():
        raise InputError(f"{conf / name}.yaml: missing; run this in the repository root.")
    composed = _run_hydra(overrides, conf, name)
    try:
        params = config.parse(yaml.safe_load(composed), f"conf/ with {' '.join(overrides) or 'its defaults'}")
    except InputError as error:
        raise InputError("\n".join([str(error), *list_hints(overrides, str(error))])) from None
    _require_known_names(params, conf)
    return composed


def write(overrides: Sequence[str], check: bool = False, conf: Path = CONF, params: Path = config.PARAMS) -> str:
    """Write params.yaml and conf/choices.yaml, or with `check` only compare them, and return a line about the outcome.

    Without overrides, `check` compares with what conf/choices.yaml composes to.

    Raises:
        InputError: as `compose`; with `check`, a file differs from the composition.
    """
    chosen = conf / f"{choices.NAME}.yaml"
    if check and not overrides:
        contents = {params: compose([], conf, choices.NAME)}
    else:
        composed = compose(overrides, conf)
        contents = {chosen: _record_choices(overrides, composed, conf), params: composed}
    different = [path for path, content in contents.items() if not (path.exists() and path.read_bytes() == content)]
    if check and different:
        command = choices.command(overrides) if overrides else choices.read_command(chosen)
        raise InputError(
            f"{different[-1]}: differs from what conf/ composes to. Do not edit it by hand; run `{command}`."
        )
    for path in different:
        replace_file(path, contents[path])
    return f"{params}: {'written' if params in different else 'up to date'}"


def list_notes(params: Path = config.PARAMS, overrides: Sequence[str] = (), conf: Path = CONF) -> list[str]:
    """Return what is to know of a composed configuration before anything is built.

    Args:
        params: its file.
        overrides: those that it was composed with.
        conf: the folder of config groups.

    Raises:
        InputError: params.yaml is no valid configuration.
    """
    composed = config.load(params)
    types = _list_task_types(composed.suite)
    notes = [*list_unescaped(overrides), *find_unreachable(composed)]
    if types is not None:
        notes += find_unmeasured(composed, types)
    if choices.is_whole(conf / f"{choices.NAME}.yaml"):
        notes.append(
            "`dvc exp run -S` changes values of this configuration, but no group, because a key is deleted in it"
        )
    return notes


def _run_hydra(overrides: Sequence[str], conf: Path, name: str) -> bytes:
    """Return what Hydra composes and resolves, by DVC's own writer: the same bytes as `dvc exp run -S`.

    Raises:
        InputError: Hydra refuses it; the message lists the options.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    quoted = quote_for_hydra(overrides, _list_groups(conf))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "params.yaml")
        try:
            compose_and_dump(str(out), str(conf.resolve()), None, name, folder, quoted)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            reasons = " ".join(str(part).strip() for part in (error, error.__cause__) if part)
            lines = [f"cannot compose {' '.join(overrides)}: {reasons}", *list_hints(overrides, reasons)]
            raise InputError("\n".join(lines) + _list_options(conf)) from None
        return out.read_bytes()


def _record_choices(overrides: Sequence[str], composed: bytes, conf: Path) -> bytes:
    """Return a conf/choices.yaml that composes to the same bytes as the overrides."""
    quoted = quote_for_hydra(overrides, _list_groups(conf))
    chosen = choices.dump(overrides, quoted, conf)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(conf, Path(folder, "conf")))
        (copy / f"{choices.NAME}.yaml").write_bytes(chosen)
        with suppress(InputError):
            if _run_hydra([], copy, choices.NAME) == composed:
                return chosen
    return choices.dump_whole(overrides, composed)


def _require_known_names(params: Params, conf: Path) -> None:
    """Refuse names that the schema alone cannot judge.

    A candidate may be left out of a build, but some recipe must be able to build it.

    Raises:
        InputError: no recipe is named like a candidate, or the builtin suite has no text in a language.
    """
    from stages.data.message_tasks import LANGUAGES

    recipes = {*params.variants, *(path.stem for path in (conf / "variant").glob("*.yaml"))}
    if unknown := sorted(set(params.target.candidates) - recipes):
        raise InputError(f"target.candidates: no recipe is named {unknown}. Choose from {', '.join(sorted(recipes))}.")
    if isinstance(params.suite, BuiltinSuite) and (unknown := sorted(set(params.suite.languages) - set(LANGUAGES))):
        raise InputError(f"suite.languages: there is no text in {unknown}. Choose from {', '.join(LANGUAGES)}.")
    _list_task_types(params.suite)


def _list_task_types(suite: Suite) -> frozenset[str] | None:
    """Return mteb's types of a suite's tasks; None for a folder that is not on this machine.

    Raises:
        InputError: mteb has no such benchmark, task or subset.
    """
    return _look_up_types(suite.model_dump_json())


@cache  # mteb takes seconds, and notes ask again
def _look_up_types(suite_json: str) -> frozenset[str] | None:
    suite = TypeAdapter[Suite](Suite).validate_json(suite_json)
    if isinstance(suite, BuiltinSuite):
        return frozenset(BUILTIN_LAYOUTS) - (set() if suite.languages else {"BitextMining"})
    from stages.data.selection import require_task, select_from_folder, select_published

    if isinstance(suite, HubSuite):
        return frozenset(selected.type for selected in select_published(suite))
    if not Path(str(suite.data)).expanduser().is_dir():
        return frozenset(require_task(name, "suite.tasks") for name in suite.tasks) or None
    return frozenset(selected.type for selected in select_from_folder(suite))


def _list_groups(conf: Path) -> list[str]:
    return sorted(path.name for path in conf.iterdir() if path.is_dir())


def _list_options(conf: Path) -> str:
    """Return one line per config group with its options."""
    options = {group: sorted(file.stem for file in (conf / group).glob("*.yaml")) for group in _list_groups(conf)}
    return "\nAvailable options:" + "".join(f"\n  {group}: {', '.join(names)}" for group, names in options.items())
