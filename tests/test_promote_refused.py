"""S3 that refuses, or is not there: the documented exit code, one message, and no secret in it."""

import pytest

from stages.commands import promote
from support.fault_proxy import Fault
from support.seaweedfs import ADMIN, BUCKET, PUBLISHER, READER, secret

REFUSED = {
    "bad secret": (PUBLISHER, "wrong-secret-of-mine", None, "HTTP 403"),
    "unknown key": ("nobody", "wrong-secret-of-mine", None, "HTTP 403"),
    "read only": (READER, secret(READER), None, "HTTP 403"),
    "expired": (PUBLISHER, secret(PUBLISHER), Fault("PUT", status=400, code="ExpiredToken"), "Get new credentials"),
    "no conditions": (PUBLISHER, secret(PUBLISHER), Fault("PUT", status=501, code="NotImplemented"), "lacks condit"),
    "no bucket": (PUBLISHER, secret(PUBLISHER), Fault("GET", status=404, code="NoSuchBucket"), "Create the bucket"),
    "other region": (PUBLISHER, secret(PUBLISHER), Fault("HEAD", status=400, code="x"), "HTTP 400"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_ends_with_5_and_tells_no_secret(account, proxy, prefix, one, console, case):
    user, key, fault, words = REFUSED[case]
    account(user, key)
    proxy.faults = [fault] if fault else []
    done = console("publish", one, "--store", f"s3://{BUCKET}/{prefix}", "--endpoint", proxy.url)
    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    assert words in done.stderr
    assert key not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bucket_that_is_not_there_ends_with_5(account, proxy, one, console):
    for arguments in (["history"], ["publish", one], ["publish", one, "--dry-run"]):
        done = console(*arguments, "--store", "s3://no-such-bucket-here", "--endpoint", proxy.url)
        assert (done.returncode, done.stdout) == (5, ""), done.stderr


def test_no_credentials_and_a_bad_endpoint_end_with_2(account, proxy, one, console, monkeypatch, tmp_path):
    done = console("history", "--store", "s3://bucket", "--endpoint", "nonsense")
    assert (done.returncode, "Correct --endpoint" in done.stderr) == (2, True), done.stderr
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = console("history", "--store", "s3://bucket", "--endpoint", proxy.url)
    assert (done.returncode, "AWS_ACCESS_KEY_ID" in done.stderr) == (2, True), done.stderr


def test_a_server_that_is_away_ends_with_75(account, one, console):
    done = console("history", "--store", "s3://bucket", "--endpoint", "http://127.0.0.1:9")
    assert (done.returncode, "unavailable (EndpointConnectionError)" in done.stderr) == (75, True), done.stderr


def test_an_admin_needs_no_more_than_a_publisher(account, weed, prefix, one):
    account(ADMIN, secret(ADMIN))
    store = promote.open_store(f"s3://{BUCKET}/{prefix}/deep/er/", weed.endpoint)
    digest = promote.publish(store, one, one.parent).digest
    keys = [item["Key"] for item in weed.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
    assert all(key.startswith(f"{prefix}/deep/er/") for key in keys)
    assert f"{prefix}/deep/er/releases/{digest}/manifest.json" in keys
