"""What `serve` was given, as something to watch and something that supplies it."""

from pathlib import Path

from .source import Shelf, Source, Supply, Watch
from .tar_supply import TarSupply


def open_source(source: Source, state: Path) -> tuple[Watch, Supply | None]:
    """Return what notices releases of a source, and what brings them to this host; None where nothing must.

    Raises:
        InputError: the state folder cannot be written.
    """
    if not source.path.is_file():
        return Watch(source.path, source.signer), None
    shelf = Shelf(state, str(source.path.absolute()))
    return shelf.watch(source.signer), TarSupply(source.path, shelf, source.signer)
