"""compose: conf/ plus overrides -> params.yaml, byte-equal to what `dvc exp run -S …` writes. Not a DVC stage.

In: conf/. Out: params.yaml. Fails: 2 unknown option, key or value, with the valid ones listed; drift with --check.
"""

import tempfile
from pathlib import Path

import yaml
from embed_foundry.errors import InputError

from stages.common import config
from stages.common.config import Params
from stages.common.config.suite import BuiltinSuite
from stages.common.limits.reach import find_unreachable

CONF = Path("conf")


def compose(overrides: list[str], conf: Path = CONF) -> bytes:
    """Return the composed and validated configuration as the bytes of params.yaml.

    Args:
        overrides: Hydra overrides such as `target=railway_cpu` or `variant=[fp32,static]`.
        conf: the folder of config groups.

    Raises:
        InputError: Hydra or the schema refuses it, or it names what does not exist; the message lists the options.
    """
    from dvc.utils.hydra import compose_and_dump  # DVC's own writer: the same bytes as `dvc exp run -S`
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not (conf / "config.yaml").is_file():
        raise InputError(f"{conf / 'config.yaml'}: missing; run this in the repository root.")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "params.yaml")
        try:
            compose_and_dump(str(out), str(conf.resolve()), None, "config", folder, overrides)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            reasons = " ".join(str(part).strip() for part in (error, error.__cause__) if part)
            raise InputError(f"cannot compose {' '.join(overrides)}: {reasons}{_list_options(conf)}") from None
        composed = out.read_bytes()
    params = config.parse(yaml.safe_load(composed), f"conf/ with {' '.join(overrides) or 'its defaults'}")
    _require_known_names(params, conf)
    return composed


def write(overrides: list[str], check: bool = False, conf: Path = CONF, params: Path = config.PARAMS) -> str:
    """Write params.yaml, or with `check` only compare it, and return a line about the outcome.

    Raises:
        InputError: as `compose`; with `check`, params.yaml differs from the composition.
    """
    composed = compose(overrides, conf)
    up_to_date = params.exists() and params.read_bytes() == composed
    if check and not up_to_date:
        command = " ".join(["embed-foundry compose", *overrides])
        raise InputError(f"{params}: differs from what conf/ composes to. Do not edit it by hand; run `{command}`.")
    if not up_to_date:
        params.write_bytes(composed)
    return f"{params}: {'up to date' if up_to_date else 'written'}"


def list_notes(params: Path = config.PARAMS) -> list[str]:
    """Return what a composed configuration will not reach, known before anything is built.

    Raises:
        InputError: params.yaml is no valid configuration.
    """
    return list(find_unreachable(config.load(params)))


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


def _list_options(conf: Path) -> str:
    """Return one line per config group with its options."""
    groups = sorted(path for path in conf.iterdir() if path.is_dir())
    lines = [f"\n  {group.name}: {', '.join(sorted(file.stem for file in group.glob('*.yaml')))}" for group in groups]
    return "\nAvailable options:" + "".join(lines)
