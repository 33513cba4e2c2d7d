"""S3 refuses or is unreachable: the documented exit code, one message, and no secret in it."""

import pytest
from embed_foundry.store import open_store

from stages.commands.publish import publish
from support.fault_proxy import Fault
from support.seaweedfs import ADMIN, BUCKET, PUBLISHER, READER, secret_key

AS_PUBLISHER = (PUBLISHER, secret_key(PUBLISHER))
REFUSED = {
    "bad secret": (PUBLISHER, "wrong-secret-of-mine", None, "HTTP 403"),
    "unknown key": ("nobody", "wrong-secret-of-mine", None, "HTTP 403"),
    "read only": (READER, secret_key(READER), None, "HTTP 403"),
    "expired": (*AS_PUBLISHER, Fault("PUT", status=400, code="ExpiredToken"), "Get new credentials"),
    "no conditions": (*AS_PUBLISHER, Fault("PUT", status=501, code="NotImplemented"), "lacks conditional writes"),
    "a header": (*AS_PUBLISHER, Fault("PUT", header="If-None-Match", status=501, code="NotImplemented"), "use another"),
    "clock": (*AS_PUBLISHER, Fault("GET", status=403, code="RequestTimeTooSkewed"), "Set this machine's clock"),
    "long key": (*AS_PUBLISHER, Fault("GET", status=400, code="KeyTooLongError"), "Shorten the prefix"),
    "region": (*AS_PUBLISHER, Fault("GET", status=400, code="AuthorizationHeaderMalformed"), "Set AWS_REGION"),
    "its words": (*AS_PUBLISHER, Fault("GET", status=403, code="X", message="Quota\n of\u202e 5"), ': "Quota of 5".'),
    "no bucket": (*AS_PUBLISHER, Fault("GET", status=404, code="NoSuchBucket"), "Create the bucket"),
    "other region": (*AS_PUBLISHER, Fault("HEAD", status=400, code="x"), "HTTP 400"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_ends_with_5_and_shows_no_secret(set_credentials, proxy, bucket_prefix, first_release, console, case):
    user, key, fault, message = REFUSED[case]
    set_credentials(user, key)
    proxy.faults = [fault] if fault else []
    result = console("publish", first_release, "--store", f"s3://{BUCKET}/{bucket_prefix}", "--endpoint", proxy.url)
    assert (result.returncode, result.stdout) == (5, ""), result.stderr
    assert message in result.stderr
    assert key not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_bucket_ends_with_5(set_credentials, proxy, first_release, console):
    for arguments in (["history"], ["publish", first_release], ["publish", first_release, "--dry-run"]):
        result = console(*arguments, "--store", "s3://no-such-bucket-here", "--endpoint", proxy.url)
        assert (result.returncode, result.stdout) == (5, ""), result.stderr


def test_no_credentials_and_a_bad_endpoint_end_with_2(
    set_credentials, proxy, first_release, console, monkeypatch, tmp_path
):
    result = console("history", "--store", "s3://bucket", "--endpoint", "nonsense")
    assert (result.returncode, "Correct --endpoint" in result.stderr) == (2, True), result.stderr
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    result = console("history", "--store", "s3://bucket", "--endpoint", proxy.url)
    assert (result.returncode, "AWS_ACCESS_KEY_ID" in result.stderr) == (2, True), result.stderr


def test_an_unreachable_server_ends_with_75(set_credentials, first_release, console):
    result = console("history", "--store", "s3://bucket", "--endpoint", "http://127.0.0.1:9")
    assert (result.returncode, "unavailable (EndpointConnectionError)" in result.stderr) == (75, True), result.stderr


def test_an_admin_needs_no_more_than_a_publisher(set_credentials, s3_server, bucket_prefix, first_release):
    set_credentials(ADMIN, secret_key(ADMIN))
    store = open_store(f"s3://{BUCKET}/{bucket_prefix}/deep/er/", s3_server.endpoint)
    digest = publish(store, first_release, first_release.parent).digest
    keys = [item["Key"] for item in s3_server.client().list_objects_v2(Bucket=BUCKET, Prefix=bucket_prefix)["Contents"]]
    assert all(key.startswith(f"{bucket_prefix}/deep/er/") for key in keys)
    assert f"{bucket_prefix}/deep/er/releases/{digest}/manifest.json" in keys
