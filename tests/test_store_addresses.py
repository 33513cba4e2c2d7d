"""Addresses of stores: every bucket name that boto3 takes, prefixes of any letters, and what is refused."""

import os
from collections.abc import Callable, Iterator

import pytest
from embed_foundry.store import s3_multipart
from embed_foundry.store.addresses import open_store

from support.release_stores import read_digest
from support.seaweedfs import BUCKET, PUBLISHER, secret_key
from support.signed_requests import SignedRequests

LIST = "?list-type=2&prefix={}channels%2F&encoding-type=url"
LONG = "x" * 255
POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint"
# Address, addressing style, and the host, path, region and service of the request for its channels.
BUCKETS = [
    ("s3://My_Old_Bucket/x", "auto", "s3.test", f"/My_Old_Bucket{LIST.format('x%2F')}", "us-east-1", "s3"),
    ("s3://UPPER", "auto", "s3.test", f"/UPPER{LIST.format('')}", "us-east-1", "s3"),
    (f"s3://{LONG}/", "auto", "s3.test", f"/{LONG}{LIST.format('')}", "us-east-1", "s3"),
    ("s3://my.dotted.bucket/x/y/", "auto", "s3.test", f"/my.dotted.bucket{LIST.format('x%2Fy%2F')}", "us-east-1", "s3"),
    ("s3://my-bucket/x", "virtual", "my-bucket.s3.test", f"/{LIST.format('x%2F')}", "us-east-1", "s3"),
    ("s3://My_Old/x", "virtual", "s3.test", f"/My_Old{LIST.format('x%2F')}", "us-east-1", "s3"),
    (f"s3://{POINT}/mine/x", "auto", "mine-123456789012.s3.test", f"/{LIST.format('x%2F')}", "eu-west-1", "s3"),
    (f"s3://{POINT}:mine/x", "auto", "mine-123456789012.s3.test", f"/{LIST.format('x%2F')}", "eu-west-1", "s3"),
    (
        "s3://my--use1-az1--x-s3/x",
        "auto",
        "my--use1-az1--x-s3.s3.test",
        f"/{LIST.format('x%2F')}",
        "us-east-1",
        "s3express",
    ),
]


@pytest.fixture
def requests(set_credentials, monkeypatch) -> Iterator[SignedRequests]:
    """Return the server that all hosts' requests go to."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with SignedRequests({PUBLISHER: secret_key(PUBLISHER)}) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.setenv("http_proxy", server.url)
        yield server


@pytest.fixture
def set_style(monkeypatch, tmp_path) -> Callable[[str], None]:
    """Return a function that sets boto3's addressing style, as users do: in its configuration."""

    def set_(style: str) -> None:
        (tmp_path / "config").write_text(f"[default]\ns3 =\n  addressing_style = {style}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    return set_


@pytest.mark.parametrize(("address", "style", "host", "target", "region", "service"), BUCKETS)
def test_buckets_that_boto3_takes(requests, set_style, run_command, address, style, host, target, region, service):
    """Their requests are signed as they are sent, and go where S3 expects them."""
    set_style(style)
    assert run_command("history", "--store", address, "--endpoint", "http://s3.test")[:2] == (0, "")
    last = requests.received[-1]
    assert (last.host, last.target, last.region, last.service) == (host, target, region, service)
    code, _, err = run_command("history", "stable", "--store", address, "--endpoint", "http://s3.test")
    assert (code, "no channel stable; its channels: none yet" in err) == (2, True), err


@pytest.mark.parametrize("between", ["/", ":"])
def test_an_access_point_on_outposts(set_credentials, between):
    """botocore always takes TLS for it, whatever the endpoint says, so here only its address is looked at."""
    arn = between.join(["arn:aws:s3-outposts:us-west-2:123456789012:outpost", "op-0123", "accesspoint", "mine"])
    store = open_store(f"s3://{arn}/some/x", "https://s3.test")
    url = store.client.generate_presigned_url("get_object", Params={"Bucket": store.bucket, "Key": store.prefix + "k"})
    assert url.startswith("https://mine-123456789012.op-0123.s3.test/some/x/k?")


def test_a_directory_bucket_lists_folders_only(requests):
    """S3 Express takes no prefixes that end elsewhere; an upload of one key is looked for among those of its folder."""
    store = open_store("s3://my--use1-az1--x-s3/x", "http://s3.test")
    assert list(s3_multipart.list_unfinished(store.client, store.bucket, "x/objects/sha256/abc")) == []
    assert "prefix=x%2Fobjects%2Fsha256%2F&" in requests.received[-1].target + "&"


def test_a_multi_region_access_point_names_the_library_it_needs(requests, run_command):
    address = "s3://arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap/x"
    code, out, err = run_command("history", "--store", address)
    assert (code, out, len(err.splitlines()), "botocore[crt]" in err) == (2, "", 1, True), err


@pytest.mark.parametrize(
    "prefix",
    ["a b/ü+%20#?&=~'()!*;:@$,/模型", "%2e%2e/%", " both ends ", "😀/e\u0301/\u00a0", "x.y/..z/...", "-/_/'\""],
)
def test_prefixes_of_any_letters(
    set_credentials, s3_server, bucket_prefix, run_command, first_release, tmp_path, prefix
):
    """On SeaweedFS, which checks each signature."""
    address = f"s3://{BUCKET}/{bucket_prefix}/{prefix}"
    digest = read_digest(first_release)
    store = ("--store", f"{address}/", "--endpoint", s3_server.endpoint)
    assert run_command("publish", first_release, *store)[:2] == (0, digest)
    assert run_command("promote", "stable", digest, *store)[0] == 0
    store = ("--store", address, "--endpoint", s3_server.endpoint)
    assert run_command("history", *store)[:2] == (0, f"{'stable':<20} {digest}")
    assert run_command("fetch", "stable", tmp_path / "fetched", *store)[0] == 0
    keys = [
        item["Key"]
        for item in s3_server.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{bucket_prefix}/")["Contents"]
    ]
    assert all(key.startswith(f"{bucket_prefix}/{prefix}/") for key in keys)


@pytest.mark.parametrize(
    "prefix", ["..", "a/../b", "a/./b", "a//b", "/a", "a\\b", "a\nb", "\x7f", os.fsdecode(b"\xff")]
)
def test_prefixes_that_servers_change_are_refused(run_command, prefix):
    code, out, err = run_command("history", "--store", f"s3://bucket/{prefix}")
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert "expected UTF-8 without control characters" in err


@pytest.mark.parametrize(
    "bucket", ["a b", "bücket", "a:b", "a?b", "x" * 256, "arn:aws:s3:eu-west-1:12:accesspoint:a", "user@host", "a%2fb"]
)
def test_buckets_that_boto3_refuses(run_command, bucket):
    code, out, err = run_command("history", "--store", f"s3://{bucket}/x")
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert f"bucket {bucket!r}: expected up to 255 of A-Z" in err
