"""Fixtures: stores that releases are published to, a folder or a real S3 server, and a proxy that injects faults."""

import functools
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.loaders import JSONFileLoader
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from embed_foundry.store import open_store, s3_multipart
from embed_foundry.store.s3_multipart import UnfinishedUpload

from support.fault_proxy import FaultProxy
from support.release_stores import StoreUnderTest
from support.seaweedfs import ADMIN, BUCKET, PUBLISHER, SeaweedServer, secret_key

PART_BYTES = 5 << 20


@pytest.fixture(scope="session")
def s3_server() -> Iterator[SeaweedServer]:
    """Return a running S3 server."""
    # Each command makes a client, as it would in a process of its own, and botocore parses megabytes for it.
    load_once = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
    with pytest.MonkeyPatch.context() as patch, SeaweedServer() as server:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load_once(path))
        yield server


@pytest.fixture
def bucket_prefix(tmp_path) -> str:
    """Return a test's own prefix in the bucket; a bucket for each test would fill SeaweedFS with volumes."""
    return hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]


@pytest.fixture
def weights_file(tmp_path) -> Path:
    """Return a file of three parts of unequal size."""
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(2 * PART_BYTES + 1234))
    return path


@pytest.fixture
def list_uploads(s3_server, bucket_prefix) -> Callable[[], list[UnfinishedUpload]]:
    """Return a function that lists this test's unfinished uploads."""
    return lambda: list(s3_multipart.list_unfinished(s3_server.client(), BUCKET, bucket_prefix))


@pytest.fixture(params=["file", "s3"])
def release_store(request, tmp_path, monkeypatch) -> StoreUnderTest:
    """Return an empty store of each kind, addressed by the environment as a user would."""
    if request.param == "file":
        address, root = f"file://{tmp_path / 'store'}", tmp_path / "store"

        def put(key: str, data: bytes) -> None:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)

        def remove(key: str) -> None:
            (root / key).unlink()
    else:
        server, prefix = request.getfixturevalue("s3_server"), request.getfixturevalue("bucket_prefix")
        address, client = f"s3://{BUCKET}/{prefix}", server.client()
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key(ADMIN))

        def put(key: str, data: bytes) -> None:
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=data)

        def remove(key: str) -> None:
            client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{key}")

    monkeypatch.setenv("EMBED_FOUNDRY_STORE", address)
    return StoreUnderTest(open_store(None, None), put, remove)


@pytest.fixture
def proxy(s3_server) -> Iterator[FaultProxy]:
    """Return a proxy in front of the S3 server that injects the faults a test sets."""
    with FaultProxy(s3_server.endpoint) as server:
        yield server


@pytest.fixture
def set_credentials(monkeypatch) -> Callable[[str, str], None]:
    """Return a function that sets a user's credentials; those of a publisher are set, and retries are few."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")

    def set_(user: str, key: str) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)

    set_(PUBLISHER, secret_key(PUBLISHER))
    return set_


@pytest.fixture
def certificate(tmp_path) -> tuple[Path, ssl.SSLContext]:
    """Return the file of a certificate for 127.0.0.1 that no authority signed, and a server's settings with it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=True).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return file, context
