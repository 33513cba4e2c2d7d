"""What `serve` was given, as something to watch and something that supplies it."""

from ..errors import InputError
from .channel_supply import ChannelSupply
from .settings import Settings
from .source import Shelf, Source, Supply, Watch
from .tar_supply import TarSupply


def open_source(source: Source, settings: Settings) -> tuple[Watch, Supply | None]:
    """Return what notices releases of a source, and what brings them to this host; None where nothing must.

    Raises:
        InputError: neither a path nor a channel is given, or both; the state folder cannot be written; the store's
            address is wrong, or its library is missing.
    """
    if (source.path is None) == (not settings.channel):
        raise InputError("serve: expected a release folder, a tar, or --channel NAME of a store; give one of them.")
    if source.path is None:
        from ..store.addresses import open_store

        store = open_store(settings.store or None, settings.endpoint or None)
        shelf = Shelf(settings.state, f"{store.address} {settings.channel}")
        return shelf.watch(source.signer), ChannelSupply(store, settings.channel, shelf, source.signer)
    if not source.path.is_file():
        return Watch(source.path, source.signer), None
    shelf = Shelf(settings.state, str(source.path.absolute()))
    return shelf.watch(source.signer), TarSupply(source.path, shelf, source.signer)
