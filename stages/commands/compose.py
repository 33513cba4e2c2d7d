"""compose: conf/ plus overrides -> params.yaml, byte-equal to what `dvc exp run -S …` writes. Not a DVC stage.

In: conf/. Out: params.yaml. Fails: 2 unknown option, key or value, with the valid ones listed; drift with --check.
"""

import tempfile
from pathlib import Path

import yaml
from embed_foundry.errors import InputError

from stages.common import config

CONF = Path("conf")


def compose(overrides: list[str], conf: Path = CONF) -> bytes:
    """Return the composed and checked configuration as the bytes of params.yaml.

    Args:
        overrides: Hydra overrides such as `target=railway_cpu` or `variant=[fp32,static]`.
        conf: the folder of config groups.

    Raises:
        InputError: Hydra or the schema refuses; the message lists the options there are.
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
            raise InputError(f"cannot compose {' '.join(overrides)}: {reasons}{_options(conf)}") from None
        answer = out.read_bytes()
    config.parse(yaml.safe_load(answer), f"conf/ with {' '.join(overrides) or 'its defaults'}")
    return answer


def write(overrides: list[str], check: bool = False, conf: Path = CONF, params: Path = config.PARAMS) -> str:
    """Write params.yaml, or with `check` only compare it, and return what was done.

    Raises:
        InputError: as `compose`; with `check`, params.yaml differs from the composition.
    """
    answer = compose(overrides, conf)
    same = params.exists() and params.read_bytes() == answer
    if check and not same:
        command = " ".join(["embed-foundry compose", *overrides])
        raise InputError(f"{params}: differs from what conf/ composes to. It is never edited by hand; run `{command}`.")
    if not same:
        params.write_bytes(answer)
    return f"{params}: {'up to date' if same else 'written'}"


def _options(conf: Path) -> str:
    groups = sorted(path for path in conf.iterdir() if path.is_dir())
    lines = [f"\n  {group.name}: {', '.join(sorted(file.stem for file in group.glob('*.yaml')))}" for group in groups]
    return "\nOptions there are:" + "".join(lines)
