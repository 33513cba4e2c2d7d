"""Where S3 servers differ by their documentation: imitated by a proxy in front of SeaweedFS; see docs/releases.md."""

from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from embed_foundry import RemoteError, manifest
from embed_foundry.store import load_channel, open_store, promote
from embed_foundry.store.s3_store import S3Store

from stages.commands.publish import publish
from support.fault_proxy import Fault, FaultProxy
from support.local_server import reply
from support.release_stores import read_digest
from support.seaweedfs import BUCKET
from support.store_fixtures import PART_BYTES

UNSUPPORTED = "Unsupported header 'x-amz-checksum-sha256' received for this API call."
NOT_IMPLEMENTED = "A header you provided implies functionality that is not implemented."


def send(proxy: FaultProxy, bucket_prefix: str, weights_file: Path) -> S3Store:
    store = replace(S3Store.connect(BUCKET, bucket_prefix, proxy.url), part_bytes=PART_BYTES)
    store.create(f"objects/sha256/{manifest.sha256(weights_file)}", weights_file, lambda _: None)
    return store


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", header="x-amz-checksum-sha256", status=400, code="InvalidArgument", message=UNSUPPORTED),
        Fault("PUT", header="If-None-Match", status=501, code="NotImplemented", message=NOT_IMPLEMENTED),
    ],
    ids=["checksum", "condition"],
)
def test_backblaze_is_refused_before_anything_is_written(
    set_credentials, s3_server, proxy, bucket_prefix, first_release, run_command, fault
):
    proxy.faults = [fault]
    store = ("--store", f"s3://{BUCKET}/{bucket_prefix}", "--endpoint", proxy.url)
    code, out, err = run_command("publish", first_release, *store)
    assert (code, out) == (5, "")
    assert f'"{fault.message}". This server lacks conditional writes or checksums' in err
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=BUCKET, Prefix=bucket_prefix)


def test_no_request_has_the_checksums_that_botocore_adds_by_itself(
    set_credentials, s3_server, certificate, bucket_prefix, first_release, weights_file, run_command, monkeypatch
):
    """R2, B2 and older Ceph and MinIO refuse some of them; ours are SHA-256, in a header of their own.

    With TLS, since botocore sends trailers and unsigned bodies only there.
    """
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    headers = ("x-amz-trailer", "x-amz-sdk-checksum-algorithm", "x-amz-checksum-crc32", "x-amz-checksum-crc64nvme")
    with FaultProxy(s3_server.endpoint, tls=certificate[1]) as proxy:
        proxy.faults = [
            Fault(method, header=header, status=400, code="InvalidArgument", message=header)
            for method in ("GET", "HEAD", "POST", "PUT")
            for header in headers
        ]
        send(proxy, bucket_prefix, weights_file)
        store = ("--store", f"s3://{BUCKET}/{bucket_prefix}", "--endpoint", proxy.url)
        assert run_command("publish", first_release, *store)[:2] == (0, read_digest(first_release))
        assert run_command("promote", "stable", read_digest(first_release), *store)[0] == 0


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (405, "MethodNotAllowed")])
def test_a_server_that_cannot_list_unfinished_uploads(
    set_credentials, proxy, bucket_prefix, weights_file, list_uploads, status, code
):
    proxy.faults = [Fault("GET", "?uploads", status=status, code=code)]
    store = send(proxy, bucket_prefix, weights_file)
    assert b"".join(store.stream(f"objects/sha256/{manifest.sha256(weights_file)}")) == weights_file.read_bytes()
    assert store.remove_stale_uploads() == 0
    assert list_uploads() == []


class MinioLike(FaultProxy):
    """Lists the unfinished uploads of one whole key only, as MinIO does: minio/minio issues 11686 and 20989."""

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(handler.path).query, keep_blank_values=True)
        if "uploads" in query and handler.command == "GET" and len(query["prefix"][0].rpartition("/")[2]) != 64:
            empty = b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
            reply(handler, 200, {"Content-Type": "application/xml"}, empty)
            return
        super().handle(handler)


@pytest.fixture
def minio(s3_server) -> Iterator[FaultProxy]:
    with MinioLike(s3_server.endpoint) as server:
        yield server


def test_minio_resumes_an_upload(set_credentials, minio, bucket_prefix, weights_file, list_uploads):
    minio.faults = [Fault("PUT", "partNumber=3", status=403, code="AccessDenied")]
    with pytest.raises(RemoteError):
        send(minio, bucket_prefix, weights_file)
    assert len(list_uploads()) == 1
    minio.faults, minio.hits = [], []
    store = send(minio, bucket_prefix, weights_file)
    assert 0 < minio.count("PUT", "partNumber") < 3
    assert replace(store, stale_s=0).remove_stale_uploads() == 0, "it shows none, and removes them itself after a day"
    assert list_uploads() == []


def test_r2_is_asked_again_where_one_key_is_written_too_often(set_credentials, proxy, bucket_prefix, first_release):
    store = open_store(f"s3://{BUCKET}/{bucket_prefix}", proxy.url)
    digest = publish(store, first_release, first_release.parent).digest
    proxy.faults = [Fault("PUT", "channels/", times=2, status=429, code="TooManyRequests")]
    promote(store, "stable", digest)
    assert load_channel(store, "stable").release == digest
