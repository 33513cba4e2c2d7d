"""Names of options in conf/model."""

import re
from pathlib import Path

from embed_foundry.errors import InputError

# What Hydra, YAML, a shell and a file system all take as a plain name.
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Hydra and YAML read these words as values.
VALUES = {"false", "inf", "nan", "no", "null", "off", "on", "true", "yes", "y", "n"}


def require_name(name: str) -> str:
    """Return a name that a user gave.

    Raises:
        InputError: it cannot name an option.
    """
    if not NAME.fullmatch(name) or name in VALUES:
        raise InputError(
            f"--name {name!r}: cannot name an option of conf/model. Use small letters, digits and _, a letter first, "
            f"such as {derive_name(name) or 'my_model'}."
        )
    return name


def derive_name(origin: str) -> str:
    """Return a name for a repository or folder: BAAI/bge-small-en-v1.5 -> bge_small_en_v15; "" if it has no letters."""
    words = re.sub(r"(?<=\d)\.(?=\d)", "", Path(origin).name.lower())
    name = re.sub(r"[^a-z0-9]+", "_", words).strip("_")
    name = f"model_{name}" if name[:1].isdigit() or name in VALUES else name
    return name[:64] if NAME.fullmatch(name[:64]) else ""
