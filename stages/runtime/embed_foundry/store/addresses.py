"""Opens a store by its address; a new kind of store is one more line in KINDS."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .file_store import FileStore
from .store import Store

# The environment variable with the store's address, and the address used without it.
VARIABLE = "EMBED_FOUNDRY_STORE"
DEFAULT = "file://store"


@dataclass(frozen=True)
class StoreKind:
    """One kind of store.

    Attributes:
        form: its addresses, as messages show them.
        location: what may follow "://".
        open: makes the store from the matched location and the S3 endpoint, if one was given.
    """

    form: str
    location: re.Pattern[str]
    open: Callable[[re.Match[str], str | None], Store]


def _open_s3(location: re.Match[str], endpoint: str | None) -> Store:
    try:
        from .s3_store import S3Store  # boto3 takes a second to import
    except ImportError as error:
        raise InputError(f"s3:// needs a library ({error}). Next: pip install 'embed-foundry[s3]'") from None

    prefix = location["prefix"] or ""
    _require_usable_prefix(prefix)
    return S3Store.connect(location["bucket"], prefix, endpoint)


def _require_usable_prefix(prefix: str) -> None:
    """Take any letters as they are, as boto3 does: `%20` or `+` in an address stays `%20` or `+` in the keys.

    Raises:
        InputError: a part is empty, `.` or `..`, or has a backslash, which some clients and servers replace after the
            request was signed; or it has control characters or bytes that are not UTF-8.
    """
    replaced = {"", ".", ".."} & set(prefix.split("/")) if prefix else set()
    control = any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in prefix)
    if replaced or control or "\\" in prefix:
        raise InputError(
            f"store: prefix {prefix!r}: expected UTF-8 without control characters, backslashes, and parts that are "
            f"empty, . or .. Correct --store or ${VARIABLE}."
        )


# By the scheme of the address.
KINDS = {
    "s3": StoreKind(
        "s3://BUCKET[/PREFIX]",
        # The names of access points (ARNs) have slashes of their own; boto3 says which names are right.
        re.compile(
            r"(?P<bucket>arn:[^/]+:outpost[/:][^/:]+[/:]accesspoint[/:][^/]+|arn:[^/]+:accesspoint[/:][^/]+|[^/]+)"
            r"(?:/(?P<prefix>.*?))?/?",
            re.DOTALL,
        ),
        _open_s3,
    ),
    "file": StoreKind(
        "file://FOLDER",
        re.compile(r"(?P<folder>.+)", re.DOTALL),
        lambda location, _endpoint: FileStore(Path(location["folder"])),
    ),
}


def open_store(address: str | None, endpoint: str | None) -> Store:
    """Return the store at an address.

    Args:
        address: in the form of one of KINDS; None takes $EMBED_FOUNDRY_STORE, else the folder `store`.
        endpoint: the S3 server; None takes boto3's configuration, including $AWS_ENDPOINT_URL.

    Raises:
        InputError: the address has none of these forms.
    """
    address = address or os.environ.get(VARIABLE) or DEFAULT
    scheme, _, rest = address.partition("://")
    kind = KINDS.get(scheme)
    location = kind.location.fullmatch(rest) if kind else None
    if kind is None or location is None:
        forms = " or ".join(kind.form for kind in KINDS.values())
        raise InputError(f"store {address!r}: expected {forms}. Correct --store or ${VARIABLE}.")
    return kind.open(location, endpoint)
