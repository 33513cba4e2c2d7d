"""A channel of a store as the source of releases: each that it points at is fetched to a shelf."""

from ..signer import Signer
from ..store.channels import resolve_digest
from ..store.fetch import fetch
from ..store.store import Store
from .source import Shelf


class ChannelSupply:
    """Fetches the release that a channel points at. Only a release that verifies reaches the shelf.

    Args:
        store: the store.
        channel: its channel, or the digest of a release.
        shelf: where releases go.
        signer: who must have signed them.
    """

    remote = True

    def __init__(self, store: Store, channel: str, shelf: Shelf, signer: Signer | None) -> None:
        self._store, self._channel, self.shelf, self._signer = store, channel, shelf, signer

    def refresh(self, *, again: bool = False) -> None:
        """Fetch the channel's release unless it is on the shelf; see `fetch` for errors."""
        digest = resolve_digest(self._store, self._channel)
        folder = self.shelf.releases / digest
        if again or not folder.exists():
            fetch(self._store, digest, folder, signer=self._signer)
        if again or self.shelf.current.resolve() != folder.resolve():
            self.shelf.put(folder)
