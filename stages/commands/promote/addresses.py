"""From a store's address to the store."""

import os
import re
from pathlib import Path

from embed_foundry import InputError

from stages.commands.promote.files import FileStore
from stages.commands.promote.s3 import S3Store
from stages.commands.promote.store import Store

# The environment variable that names a store, and the store where nothing does.
ADDRESS = "EMBED_FOUNDRY_STORE"
DEFAULT = "file://store"


def open_store(address: str | None, endpoint: str | None) -> Store:
    """Return the store at an address.

    Args:
        address: s3://BUCKET[/PREFIX] or file://FOLDER; None takes $EMBED_FOUNDRY_STORE, else the folder `store`.
        endpoint: the S3 server; None takes boto3's configuration, of which $AWS_ENDPOINT_URL is part.

    Raises:
        InputError: no such kind of address.
    """
    address = address or os.environ.get(ADDRESS) or DEFAULT
    kind, _, place = address.partition("://")
    if kind == "s3" and (found := re.fullmatch(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/?", place)):
        return S3Store.connect(found[1], found[2] or "", endpoint)
    if kind == "file" and place:
        return FileStore(Path(place))
    raise InputError(
        f"store {address!r}: expected s3://BUCKET[/PREFIX] or file://FOLDER. Correct --store or ${ADDRESS}."
    )
