"""S3 refuses, corrupts, breaks connections, loses answers: bounded retries, documented exit codes, nothing lost."""

import base64
import hashlib
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from conftest import CONSOLE
from embed_foundry import Bundle, IntegrityError, RemoteError, RetryableError, manifest
from embed_foundry.store import fetch, load_channel, open_store, promote, s3_multipart
from embed_foundry.store.s3_multipart import S3Client, UnfinishedUpload
from embed_foundry.store.s3_store import S3Store

from stages.commands.publish import publish
from support.fault_proxy import ALWAYS, Fault, wait_for
from support.seaweedfs import BUCKET
from support.store_fixtures import PART_BYTES


@pytest.fixture
def store(set_credentials, proxy, bucket_prefix) -> S3Store:
    """Return an empty store behind the proxy."""
    return S3Store.connect(BUCKET, bucket_prefix, proxy.url)


def object_key_of(weights_file: Path) -> str:
    return f"objects/sha256/{manifest.sha256(weights_file)}"


def checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def ignore(_: int) -> None:
    pass


def send(store: S3Store, weights_file: Path) -> list[int]:
    counts: list[int] = []
    replace(store, part_bytes=PART_BYTES).create(object_key_of(weights_file), weights_file, counts.append)
    return counts


def test_large_files_go_in_parts_with_checksums(s3_server, store, bucket_prefix, list_uploads, weights_file, proxy):
    assert sum(send(store, weights_file)) == weights_file.stat().st_size
    assert proxy.count("PUT", "partNumber") == 3
    head = s3_server.client().head_object(
        Bucket=BUCKET, Key=f"{bucket_prefix}/{object_key_of(weights_file)}", ChecksumMode="ENABLED"
    )
    parts = [
        weights_file.read_bytes()[start : start + PART_BYTES]
        for start in range(0, weights_file.stat().st_size, PART_BYTES)
    ]
    composite = checksum(b"".join(hashlib.sha256(part).digest() for part in parts))
    assert head["ChecksumType"] == "COMPOSITE"
    assert head["ChecksumSHA256"] == f"{composite}-3"
    assert b"".join(store.stream(object_key_of(weights_file))) == weights_file.read_bytes()
    assert list_uploads() == []


def test_an_upload_resumes_where_another_one_stopped(store, list_uploads, weights_file, proxy):
    proxy.faults = [Fault("PUT", "partNumber=3", status=403, code="AccessDenied")]
    with pytest.raises(RemoteError):
        send(store, weights_file)
    assert len(list_uploads()) == 1
    assert store.get_size(object_key_of(weights_file)) is None
    proxy.faults, proxy.hits = [], []
    send(store, weights_file)
    assert 0 < proxy.count("PUT", "partNumber") < 3, "parts were there already"
    assert b"".join(store.stream(object_key_of(weights_file))) == weights_file.read_bytes()
    assert list_uploads() == []


def test_parts_that_are_other_bytes_are_sent_again(s3_server, store, bucket_prefix, list_uploads, weights_file, proxy):
    client, key = s3_server.client(), f"{bucket_prefix}/{object_key_of(weights_file)}"
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=key, ChecksumAlgorithm="SHA256")
    part = {"PartNumber": 1, "Body": bytes(PART_BYTES), "ChecksumSHA256": checksum(bytes(PART_BYTES))}
    client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload["UploadId"], **part)
    foreign = client.create_multipart_upload(Bucket=BUCKET, Key=f"{key}x", ChecksumAlgorithm="SHA256")
    send(store, weights_file)
    assert proxy.count("PUT", "partNumber") == 3
    assert b"".join(store.stream(object_key_of(weights_file))) == weights_file.read_bytes()
    assert [upload["UploadId"] for upload in list_uploads()] == [foreign["UploadId"]], "another key's is not ours"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "uploadId", times=1, status=409, code="ConditionalRequestConflict"),
        Fault("POST", "uploadId", times=1, status=404, code="NoSuchUpload"),
        Fault("POST", "uploadId", times=1, status=503, code="SlowDown"),
        Fault("POST", "uploadId", times=1, lost=True),
        Fault("PUT", "partNumber=2", times=1, lost=True),
        Fault("PUT", "partNumber=2", times=1, status=500, code="InternalError"),
    ],
    ids=["conflict", "gone", "slow down", "answer lost", "part's answer lost", "internal error"],
)
def test_an_upload_survives(store, list_uploads, weights_file, proxy, fault):
    proxy.faults = [replace(fault)]
    send(store, weights_file)
    assert b"".join(store.stream(object_key_of(weights_file))) == weights_file.read_bytes()
    assert list_uploads() == []


def test_an_upload_that_others_keep_ending_fails(store, weights_file, proxy, monkeypatch):
    monkeypatch.setattr(s3_multipart.time, "sleep", ignore)
    proxy.faults = [Fault("POST", "uploadId", status=404, code="NoSuchUpload")]
    with pytest.raises(RetryableError, match="ended 4 times by another process"):
        send(store, weights_file)


def test_two_may_upload_the_same_file_at_once(store, list_uploads, weights_file, proxy):
    stalled, go_on = Event(), Event()
    proxy.faults = [Fault("POST", "uploadId", times=1, stalled=stalled, go_on=go_on)]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, store, weights_file)
        wait_for(stalled)  # the first one has sent all and is about to complete
        send(store, weights_file)
        go_on.set()
        first.result()
    assert b"".join(store.stream(object_key_of(weights_file))) == weights_file.read_bytes()
    assert list_uploads() == []


def test_what_a_vanished_publisher_left_is_removed_after_a_day(s3_server, store, bucket_prefix, list_uploads):
    client = s3_server.client()
    for key in ("objects/sha256/old", "elsewhere/not-ours"):
        client.create_multipart_upload(Bucket=BUCKET, Key=f"{bucket_prefix}/{key}")
    assert store.remove_stale_uploads() == 0, "it may still be in progress"
    assert replace(store, stale_s=0).remove_stale_uploads() == 1
    assert [upload["Key"] for upload in list_uploads()] == [f"{bucket_prefix}/elsewhere/not-ours"]


def list_part_numbers(client: S3Client, upload: UnfinishedUpload) -> list[int]:
    answer = client.list_parts(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    return [part["PartNumber"] for part in answer.get("Parts", [])]


def test_a_kill_in_mid_upload_loses_nothing(
    s3_server, set_credentials, bucket_prefix, list_uploads, make_release, proxy, tmp_path
):
    """kill -9 of a real process, while a part is on its way, with a channel that points elsewhere."""
    small, large = make_release(1, "static"), make_release(1, "onnx_int8")
    address = f"s3://{BUCKET}/{bucket_prefix}"
    store = open_store(address, s3_server.endpoint)
    before = publish(store, small, small.parent).digest
    promote(store, "stable", before)
    pointer = store.read("channels/stable.json")
    stalled, go_on = Event(), Event()
    proxy.faults = [Fault("PUT", "partNumber=3", times=1, stalled=stalled, go_on=go_on)]
    command = [CONSOLE, "publish", large, "--store", address, "--endpoint", proxy.url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(stalled)
    (upload,) = list_uploads()
    while len(list_part_numbers(s3_server.client(), upload)) < 2:  # parts are sent in parallel
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert store.read("channels/stable.json") == pointer
    assert store.list_keys("releases/") == [f"releases/{before}/manifest.json"]
    proxy.hits = []
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    go_on.set()
    assert (result.returncode, result.stdout.strip()) == (0, manifest.read(large).digest), result.stderr
    assert proxy.count("PUT", "partNumber") == 1, "it resumed, it did not start again"
    assert list_uploads() == []
    fetch(store, manifest.read(large).digest, tmp_path / "fetched")
    assert Bundle.load(tmp_path / "fetched").digest == manifest.read(large).digest


def test_wrong_bytes_read_back_stop_publishing(store, first_release, proxy):
    proxy.faults = [Fault("GET", "objects/sha256/", corrupt=True)]
    with pytest.raises(IntegrityError):
        publish(store, first_release, first_release.parent)
    assert store.list_keys("releases/") == []
    proxy.faults = []
    assert publish(store, first_release, first_release.parent).new_files == []


def test_wrong_bytes_of_parts_are_noticed(store, weights_file, proxy):
    """Servers have no checksum of all bytes of a multipart object; the read-back hashes them itself."""
    send(store, weights_file)
    proxy.faults = [Fault("GET", "objects/sha256/", corrupt=True)]
    assert hashlib.sha256(b"".join(store.stream(object_key_of(weights_file)))).hexdigest() not in object_key_of(
        weights_file
    )


def test_a_broken_download_continues(store, first_release, proxy, tmp_path):
    digest = publish(store, first_release, first_release.parent).digest
    proxy.faults = [Fault("GET", "objects/sha256/", times=2, cut=True)]
    fetch(store, digest, tmp_path / "fetched")
    assert Bundle.load(tmp_path / "fetched").digest == digest
    proxy.faults = [Fault("GET", "objects/sha256/", times=ALWAYS, status=503, code="SlowDown")]
    with pytest.raises(RetryableError, match=r"SlowDown \(HTTP 503\), even after retries"):
        fetch(store, digest, tmp_path / "more")
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"fetched"}


def test_a_pointers_lost_answer_is_not_a_lost_race(store, first_release, proxy):
    digest = publish(store, first_release, first_release.parent).digest
    proxy.faults = [Fault("PUT", "channels/", times=1, lost=True)]
    promote(store, "stable", digest)
    assert len(load_channel(store, "stable").moves) == 1
    proxy.faults = [Fault("PUT", "channels/", times=2, status=409, code="ConditionalRequestConflict")]
    promote(store, "canary", digest)
    assert load_channel(store, "canary").release == digest


@pytest.mark.parametrize("before", ["nothing", "an earlier publisher's try"])
def test_a_server_that_ignores_conditions_is_refused(s3_server, store, bucket_prefix, first_release, proxy, before):
    """The first time that is If-None-Match on the object just written, later If-Match with a wrong version."""
    if before != "nothing":
        s3_server.client().put_object(Bucket=BUCKET, Key=f"{bucket_prefix}/conditions", Body=b"")
    unchanged = Fault("PUT", "conditions", times=1)
    proxy.faults = [unchanged, Fault("PUT", "conditions", times=1, pretend=True)]
    with pytest.raises(RemoteError, match="this server ignores If-None-Match or If-Match"):
        publish(store, first_release, first_release.parent)
    assert store.list_keys("objects/") == []
