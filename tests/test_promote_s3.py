"""S3 that refuses, corrupts, breaks off and loses answers: bounded retries, the documented exit code, nothing lost."""

import base64
import hashlib
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from conftest import CONSOLE
from embed_foundry import Bundle, IntegrityError, RemoteError, RetryableError, manifest

from stages.commands import promote
from stages.commands.promote import multipart
from stages.commands.promote.s3 import S3Store
from support.fault_proxy import ALWAYS, Fault, wait_for
from support.seaweedfs import BUCKET

PART = 5 << 20


@pytest.fixture
def store(account, proxy, prefix) -> S3Store:
    """Return an empty store behind the proxy."""
    return S3Store.connect(BUCKET, prefix, proxy.url)


@pytest.fixture
def file(tmp_path) -> Path:
    """Return a file of three parts of unequal size."""
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(2 * PART + 1234))
    return path


def key_of(file: Path) -> str:
    return f"objects/sha256/{manifest.sha256(file)}"


def checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def open_uploads(weed: Any, prefix: str) -> list[dict[str, Any]]:
    return list(multipart.uploads(weed.client(), BUCKET, prefix))


def parts_there(weed: Any, prefix: str) -> list[int]:
    """Return the numbers of the parts of the one unfinished upload."""
    (upload,) = open_uploads(weed, prefix)
    listed = weed.client().list_parts(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    return [part["PartNumber"] for part in listed.get("Parts", [])]


def no_count(_: int) -> None:
    pass


def send(store: S3Store, file: Path) -> list[int]:
    counts: list[int] = []
    replace(store, part=PART).create(key_of(file), file, counts.append)
    return counts


def test_big_files_go_in_parts_with_checksums(weed, store, prefix, file, proxy):
    assert sum(send(store, file)) == file.stat().st_size
    assert proxy.count("PUT", "partNumber") == 3
    head = weed.client().head_object(Bucket=BUCKET, Key=f"{prefix}/{key_of(file)}", ChecksumMode="ENABLED")
    parts = [file.read_bytes()[at : at + PART] for at in range(0, file.stat().st_size, PART)]
    composite = checksum(b"".join(hashlib.sha256(part).digest() for part in parts))
    assert head["ChecksumType"] == "COMPOSITE"
    assert head["ChecksumSHA256"] == f"{composite}-3"
    assert b"".join(store.stream(key_of(file))) == file.read_bytes()
    assert open_uploads(weed, prefix) == []


def test_an_upload_goes_on_where_another_one_stopped(weed, store, prefix, file, proxy):
    proxy.faults = [Fault("PUT", "partNumber=3", status=403, code="AccessDenied")]
    with pytest.raises(RemoteError):
        send(store, file)
    assert len(open_uploads(weed, prefix)) == 1
    assert store.size(key_of(file)) is None
    proxy.faults, proxy.hits = [], []
    send(store, file)
    assert 0 < proxy.count("PUT", "partNumber") < 3, "parts were there already"
    assert b"".join(store.stream(key_of(file))) == file.read_bytes()
    assert open_uploads(weed, prefix) == []


def test_parts_that_are_other_bytes_are_sent_again(weed, store, prefix, file, proxy):
    client = weed.client()
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/{key_of(file)}", ChecksumAlgorithm="SHA256")
    part = {"PartNumber": 1, "Body": bytes(PART), "ChecksumSHA256": checksum(bytes(PART))}
    client.upload_part(Bucket=BUCKET, Key=f"{prefix}/{key_of(file)}", UploadId=upload["UploadId"], **part)
    older = client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/{key_of(file)}x", ChecksumAlgorithm="SHA256")
    send(store, file)
    assert proxy.count("PUT", "partNumber") == 3
    assert b"".join(store.stream(key_of(file))) == file.read_bytes()
    assert [left["UploadId"] for left in open_uploads(weed, prefix)] == [older["UploadId"]], "another key's is not ours"


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
def test_an_upload_survives(weed, store, prefix, file, proxy, fault):
    proxy.faults = [replace(fault)]
    send(store, file)
    assert b"".join(store.stream(key_of(file))) == file.read_bytes()
    assert open_uploads(weed, prefix) == []


def test_an_upload_that_is_taken_away_for_ever_ends(store, file, proxy, monkeypatch):
    monkeypatch.setattr(multipart.time, "sleep", no_count)
    proxy.faults = [Fault("POST", "uploadId", status=404, code="NoSuchUpload")]
    with pytest.raises(RetryableError, match="taken away 4 times"):
        send(store, file)


def test_two_may_upload_the_same_file_at_once(weed, store, prefix, file, proxy):
    stalled, go_on = Event(), Event()
    proxy.faults = [Fault("POST", "uploadId", times=1, stalled=stalled, go_on=go_on)]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, store, file)
        wait_for(stalled)  # the first one has sent all and is about to complete
        send(store, file)
        go_on.set()
        first.result()
    assert b"".join(store.stream(key_of(file))) == file.read_bytes()
    assert open_uploads(weed, prefix) == []


def test_what_a_vanished_publisher_left_is_swept_after_a_day(weed, store, prefix):
    client = weed.client()
    for key in ("objects/sha256/old", "elsewhere/not-ours"):
        client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/{key}")
    assert store.sweep() == 0, "it may still be at work"
    assert replace(store, stale_s=0).sweep() == 1
    assert [upload["Key"] for upload in open_uploads(weed, prefix)] == [f"{prefix}/elsewhere/not-ours"]


def test_a_kill_in_mid_upload_loses_nothing(weed, account, prefix, version, proxy, tmp_path):
    """kill -9 of a real process, while a part is on its way, with a channel that points elsewhere."""
    small, big = version(1, "static"), version(1, "onnx_int8")
    address = f"s3://{BUCKET}/{prefix}"
    store = promote.open_store(address, weed.endpoint)
    before = promote.publish(store, small, small.parent).digest
    promote.promote(store, "stable", before)
    pointer = store.read("channels/stable.json")
    stalled, go_on = Event(), Event()
    proxy.faults = [Fault("PUT", "partNumber=3", times=1, stalled=stalled, go_on=go_on)]
    command = [CONSOLE, "publish", big, "--store", address, "--endpoint", proxy.url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(stalled)
    while len(parts_there(weed, prefix)) < 2:  # parts go side by side
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert store.read("channels/stable.json") == pointer
    assert store.keys("releases/") == [f"releases/{before}/manifest.json"]
    proxy.hits = []
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    go_on.set()
    assert (done.returncode, done.stdout.strip()) == (0, manifest.read(big).digest), done.stderr
    assert proxy.count("PUT", "partNumber") == 1, "it went on, it did not begin anew"
    assert open_uploads(weed, prefix) == []
    promote.fetch(store, manifest.read(big).digest, tmp_path / "got")
    assert Bundle.load(tmp_path / "got").digest == manifest.read(big).digest


def test_bytes_that_come_back_wrong_end_the_publication(store, one, proxy):
    proxy.faults = [Fault("GET", "objects/sha256/", corrupt=True)]
    with pytest.raises(IntegrityError):
        promote.publish(store, one, one.parent)
    assert store.keys("releases/") == []
    proxy.faults = []
    assert promote.publish(store, one, one.parent).new == []


def test_bytes_of_parts_that_come_back_wrong_are_noticed(store, file, proxy):
    """Servers have no checksum of all bytes of a multipart object; the read-back hashes them itself."""
    send(store, file)
    proxy.faults = [Fault("GET", "objects/sha256/", corrupt=True)]
    assert hashlib.sha256(b"".join(store.stream(key_of(file)))).hexdigest() not in key_of(file)


def test_a_download_that_breaks_off_goes_on(store, one, proxy, tmp_path):
    digest = promote.publish(store, one, one.parent).digest
    proxy.faults = [Fault("GET", "objects/sha256/", times=2, cut=True)]
    promote.fetch(store, digest, tmp_path / "got")
    assert Bundle.load(tmp_path / "got").digest == digest
    proxy.faults = [Fault("GET", "objects/sha256/", times=ALWAYS, status=503, code="SlowDown")]
    with pytest.raises(RetryableError, match=r"SlowDown \(HTTP 503\), also after retries"):
        promote.fetch(store, digest, tmp_path / "more")
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"got"}


def test_a_pointers_lost_answer_is_not_a_lost_race(store, one, proxy):
    digest = promote.publish(store, one, one.parent).digest
    proxy.faults = [Fault("PUT", "channels/", times=1, lost=True)]
    promote.promote(store, "stable", digest)
    assert len(promote.history(store, "stable").moves) == 1
    proxy.faults = [Fault("PUT", "channels/", times=2, status=409, code="ConditionalRequestConflict")]
    promote.promote(store, "canary", digest)
    assert promote.history(store, "canary").release == digest


@pytest.mark.parametrize("before", ["nothing", "an earlier publisher's try"])
def test_a_server_that_ignores_conditions_is_refused(weed, store, prefix, one, proxy, before):
    """The first time that is If-None-Match on the object just written, later If-Match with a wrong version."""
    if before != "nothing":
        weed.client().put_object(Bucket=BUCKET, Key=f"{prefix}/conditions", Body=b"")
    as_it_is = Fault("PUT", "conditions", times=1)
    proxy.faults = [as_it_is, Fault("PUT", "conditions", times=1, pretend=True)]
    with pytest.raises(RemoteError, match="this server ignores If-None-Match or If-Match"):
        promote.publish(store, one, one.parent)
    assert store.keys("objects/") == []
