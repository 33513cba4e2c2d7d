"""A folder in which `python -m stages.convert NAME` runs as in the repository."""

from pathlib import Path


def make_workplace(folder: Path, base: Path, params: bytes) -> Path:
    """Write params.yaml and link the base model into a folder; return the folder."""
    (folder / "params.yaml").write_bytes(params)
    (folder / "models").mkdir()
    (folder / "models" / "base").symlink_to(base)
    return folder
