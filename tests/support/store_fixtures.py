"""Fixtures: stores that releases are published to, a folder or a real S3 server, and what stands between."""

import functools
import hashlib
from collections.abc import Callable, Iterator

import pytest
from botocore.loaders import JSONFileLoader

from stages.commands import promote
from support.fault_proxy import FaultProxy
from support.release_stores import Place
from support.seaweedfs import ADMIN, BUCKET, PUBLISHER, Weed, secret


@pytest.fixture(scope="session")
def weed() -> Iterator[Weed]:
    """Return a running S3 server."""
    # Each command makes a client, as it would in a process of its own, and botocore parses megabytes for it.
    parse = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
    with pytest.MonkeyPatch.context() as patch, Weed() as server:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: parse(path))
        yield server


@pytest.fixture
def prefix(tmp_path) -> str:
    """Return a test's own prefix in the bucket; a bucket for each test would fill SeaweedFS with volumes."""
    return hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]


@pytest.fixture(params=["file", "s3"])
def shelf(request, tmp_path, monkeypatch) -> Place:
    """Return an empty store of each kind, named by the environment as a user would."""
    if request.param == "file":
        address, root = f"file://{tmp_path / 'store'}", tmp_path / "store"

        def put(key: str, data: bytes) -> None:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)

        def remove(key: str) -> None:
            (root / key).unlink()
    else:
        weed, prefix = request.getfixturevalue("weed"), request.getfixturevalue("prefix")
        address, client = f"s3://{BUCKET}/{prefix}", weed.client()
        monkeypatch.setenv("AWS_ENDPOINT_URL", weed.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret(ADMIN))

        def put(key: str, data: bytes) -> None:
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=data)

        def remove(key: str) -> None:
            client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{key}")

    monkeypatch.setenv("EMBED_FOUNDRY_STORE", address)
    return Place(address, promote.open_store(None, None), put, remove)


@pytest.fixture
def proxy(weed) -> Iterator[FaultProxy]:
    """Return a proxy before the S3 server that breaks what a test tells it to."""
    with FaultProxy(weed.endpoint) as server:
        yield server


@pytest.fixture
def account(monkeypatch) -> Callable[[str, str], None]:
    """Return a function that sets a user's credentials; retries are as few as tell something."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")

    def use(user: str, key: str) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)

    use(PUBLISHER, secret(PUBLISHER))
    return use
