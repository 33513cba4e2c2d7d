"""Endpoints that are no S3 servers, or break off, or are silent: exit 5 or 75 within a minute, one message."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from embed_foundry.store import s3_answers

from support.fault_proxy import Fault, FaultProxy
from support.local_server import LocalServer, read_body, reply
from support.release_stores import read_digest
from support.seaweedfs import BUCKET

PAGE = b"<!DOCTYPE html><html><head><title>Console</title></head><body><br>Log in</body></html>"
XHTML = b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>Log in</p></body></html>'
LOGIN = {"Location": "https://user:secret@login.example.org/sso?next=token"}
FAILED = b"<Error><Code>InternalError</Code><Message>try again</Message></Error>"
CUT = b'<?xml version="1.0"?><ListBucketResult><Name>tests</Name><Contents><Key>chann'
LISTING = b"<ListBucketResult><Name>tests</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
NEXT = b"<NextContinuationToken>x</NextContinuationToken>"
SAME_PAGE = LISTING.replace(b"false", b"true").replace(b"</ListB", NEXT + b"</ListB")

Answer = Callable[[BaseHTTPRequestHandler], None]


def fixed(status: int, headers: dict[str, str], content: bytes, cut: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        read_body(request)
        reply(request, status, headers, content, cut)

    return answer


def endless_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    with suppress(OSError):
        while True:
            request.wfile.write(b"X-More: and more\r\n" * 100)


def speak_ssh(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    request.close_connection = True


HTML = {"Content-Type": "text/html; charset=utf-8", "ETag": '"1"'}
# What answers, the exit code, and what the message says.
ENDPOINTS: dict[str, tuple[Answer, int, str]] = {
    "301": (fixed(301, LOGIN, b""), 5, "redirects to https://login.example.org (HTTP 301) and names no region"),
    "302 page": (fixed(302, LOGIN | HTML, PAGE), 5, "redirects to https://login.example.org (HTTP 302)"),
    "307 without location": (fixed(307, {}, b""), 5, "redirects (HTTP 307)"),
    "308": (fixed(308, LOGIN, b""), 5, "(HTTP 308)"),
    "loop with region": (fixed(301, LOGIN | {"x-amz-bucket-region": "eu-west-1"}, b""), 5, "Set AWS_REGION"),
    "console": (fixed(200, HTML, PAGE), 5, "not a web console's"),
    "xhtml": (fixed(200, HTML, XHTML), 5, "not a web console's"),
    "console without etag": (fixed(200, {"Content-Type": "text/html"}, PAGE), 5, "not a web console's"),
    "json": (fixed(200, {"Content-Type": "application/json"}, b'{"message": "hello"}'), 5, "with application/json"),
    "nothing": (fixed(200, {}, b""), 5, "which no S3 server does"),
    "not found page": (fixed(404, HTML, PAGE), 5, "no S3 error code"),
    "forbidden page": (fixed(403, HTML, PAGE), 5, "no S3 error code"),
    "too large for nginx": (fixed(413, HTML, PAGE), 5, "no S3 error code"),
    "bad gateway": (fixed(502, HTML, PAGE), 75, "Run the same command again later"),
    "endless headers": (endless_headers, 75, "even after retries"),
    "same page": (fixed(200, {}, SAME_PAGE), 5, "the same page again and again"),
    "bad region": (fixed(301, {"x-amz-bucket-region": "../x y"}, b""), 5, "names no region"),
    "ssh": (speak_ssh, 75, "even after retries"),
}


# What is set in the environment, and what the message says; all of it ends with 2.
ENVIRONMENTS = {
    "no such profile": ({"AWS_PROFILE": "nope"}, "profile (nope) could not be found"),
    "broken file": ({"AWS_CONFIG_FILE": __file__}, "Unable to parse config file"),
    "attempts 0": ({"AWS_MAX_ATTEMPTS": "0"}, "AWS_MAX_ATTEMPTS='0': expected a whole number from 1 to 99"),
    "attempts no digits": ({"AWS_MAX_ATTEMPTS": "²"}, "AWS_MAX_ATTEMPTS='²': expected a whole number"),
    "attempts huge": ({"AWS_MAX_ATTEMPTS": "9" * 5000}, "expected a whole number from 1 to 99"),
    "region": ({"AWS_DEFAULT_REGION": "eu west"}, "region_name 'eu west'"),
    "line end in a key": ({"AWS_ACCESS_KEY_ID": "key\n"}, "no request can be made"),
    "line end in a token": ({"AWS_SESSION_TOKEN": "token\nsecret"}, "no request can be made"),
    "no UTF-8 in a secret": ({"AWS_SECRET_ACCESS_KEY": "secret\udcff"}, "no request can be made"),
    "proxy": ({"HTTP_PROXY": "http://[", "http_proxy": "http://["}, "HTTP_PROXY is no address"),
    "checksums": ({"AWS_REQUEST_CHECKSUM_CALCULATION": "sometimes"}, "Correct boto3's configuration"),
}


@pytest.fixture
def run_against(set_credentials, monkeypatch, run_command) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command on a store at an endpoint, with few retries."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")

    def run(endpoint: str, *command: str | Path) -> tuple[int, str, str]:
        return run_command(*command, "--store", "s3://tests/x", "--endpoint", endpoint)

    return run


@pytest.mark.parametrize("case", ENDPOINTS)
def test_an_endpoint_that_is_no_s3_server(run_against, first_release, tmp_path, case):
    answer, expected, message = ENDPOINTS[case]
    digest = read_digest(first_release)
    with LocalServer(answer) as server:
        commands: list[list[str | Path]] = [["history"]]
        if case != "same page":
            commands += [["history", "stable"]]
        if case in ("301", "console"):
            commands += [["publish", first_release], ["promote", "stable", digest], ["rollback", "stable"]]
            commands += [["fetch", digest, tmp_path / "fetched"]]
        for command in commands:
            code, out, err = run_against(server.url, *command)
            assert (code, out, err.count("error: ")) == (expected, "", 1), (command, err)
            assert message in err
            assert "secret" not in err
            assert len(err.splitlines()) == 1


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_a_wrong_setting_is_named(run_against, monkeypatch, case):
    environment, message = ENVIRONMENTS[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with LocalServer(fixed(200, {}, LISTING)) as server:
        code, out, err = run_against(server.url, "history")
    assert (code, out, message in err, len(err.splitlines())) == (2, "", True, 1), err
    assert "secret" not in err


@pytest.mark.parametrize("content", [CUT, FAILED, b"<ListBucketResult><Contents><Size>many</Size></Contents></"])
@pytest.mark.parametrize("cut", [None, 30], ids=["whole", "cut"])
def test_a_listing_that_breaks_off_or_reports_an_error_is_retryable(run_against, content, cut):
    with LocalServer(fixed(200, {"Content-Type": "application/xml"}, content, cut)) as server:
        code, out, err = run_against(server.url, "history")
    assert (code, out, len(err.splitlines())) == (75, "", 1), err


def test_a_server_that_never_answers_ends_soon(run_against, monkeypatch):
    """With the times shortened; the same on the real ones is marked slow."""
    monkeypatch.setattr(s3_answers, "READ_S", 1.0)
    monkeypatch.setattr(s3_answers, "GIVE_UP_S", 1.2)
    measure_silence(run_against, 10)


@pytest.mark.slow
def test_a_server_that_never_answers_ends_within_a_minute(run_against, monkeypatch):
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    measure_silence(run_against, 60)


def measure_silence(run_against, limit_s: float) -> None:
    go_on = threading.Event()
    with LocalServer(lambda _: go_on.wait(120) and None) as server:
        for command in (["history"], ["fetch", "0" * 64, "nowhere"]):
            start = time.monotonic()
            code, out, err = run_against(server.url, *command)
            assert (code, out, "unavailable (ReadTimeoutError)" in err) == (75, "", True), err
            assert time.monotonic() - start < limit_s
        go_on.set()


def test_a_download_that_stops_in_the_middle_ends_soon(
    set_credentials, proxy, bucket_prefix, first_release, run_command, tmp_path, monkeypatch
):
    """The server sends half of a file, then nothing more, and keeps the connection."""
    store = ("--store", f"s3://{BUCKET}/{bucket_prefix}", "--endpoint", proxy.url)
    run_command("publish", first_release, *store)
    go_on = threading.Event()
    monkeypatch.setattr(s3_answers, "READ_S", 1.0)
    monkeypatch.setattr(s3_answers, "GIVE_UP_S", 1.2)
    proxy.faults = [Fault("GET", "objects/", stuck=True, go_on=go_on)]
    start = time.monotonic()
    code, out, err = run_command("fetch", read_digest(first_release), tmp_path / "fetched", *store)
    go_on.set()
    assert (code, out, "unavailable (ReadTimeoutError)" in err) == (75, "", True), err
    assert time.monotonic() - start < 10
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("endpoint", ["http://no-such-host.invalid", "http://[::1]:9", "http://127.0.0.1:9"])
def test_an_endpoint_without_a_server_is_retryable(run_against, endpoint):
    code, out, err = run_against(endpoint, "history")
    assert (code, out, "unavailable (EndpointConnectionError)" in err) == (75, "", True), err


@pytest.mark.parametrize("endpoint", ["http://[::1", "http://host:port", "host:9000", "http:///x"])
def test_an_endpoint_that_is_no_address_is_refused(run_against, endpoint):
    code, out, err = run_against(endpoint, "history")
    assert (code, out, len(err.splitlines())) == (2, "", 1), err


def test_tls_to_a_port_without_it_and_the_reverse(run_against, certificate):
    with LocalServer(fixed(200, {}, b"")) as server:
        code, out, err = run_against(server.url.replace("http:", "https:"), "history")
    assert (code, out, "http:// for a port without TLS" in err) == (5, "", True), err
    with LocalServer(fixed(200, {}, b""), tls=certificate[1]) as server:
        code, out, err = run_against(server.url.replace("https:", "http:"), "history")
    assert (code, out, "Check the endpoint" in err) == (75, "", True), err


def test_a_certificate_that_nobody_vouches_for(run_against, certificate, monkeypatch):
    file, context = certificate
    with LocalServer(fixed(200, {"Content-Type": "application/xml"}, LISTING), tls=context) as server:
        code, out, err = run_against(server.url, "history")
        assert (code, out, "CERTIFICATE_VERIFY_FAILED" in err, "AWS_CA_BUNDLE" in err) == (5, "", True, True), err
        monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
        assert run_against(server.url, "history")[:2] == (0, "")
        code, out, err = run_against(server.url.replace("127.0.0.1", "localhost"), "history")
        assert (code, out, "hostname 'localhost' doesn't match" in err) == (5, "", True), err


def test_an_ipv6_endpoint(set_credentials, s3_server, bucket_prefix, first_release, run_command):
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        with FaultProxy(s3_server.endpoint, "::1") as proxy:
            store = ("--store", f"s3://{BUCKET}/{bucket_prefix}", "--endpoint", proxy.url)
            assert run_command("publish", first_release, *store)[:2] == (0, read_digest(first_release))
        return
    pytest.skip("this machine has no IPv6")


def test_a_manifest_that_was_accepted_but_not_kept(set_credentials, proxy, bucket_prefix, first_release, run_command):
    store = ("--store", f"s3://{BUCKET}/{bucket_prefix}", "--endpoint", proxy.url)
    proxy.faults = [Fault("PUT", "manifest.json", dropped=True)]
    code, out, err = run_command("publish", first_release, *store)
    assert (code, out, "is not there, though the store accepted it" in err) == (3, "", True), err
    assert "by hand" not in err
    proxy.faults = []
    assert run_command("publish", first_release, *store)[0] == 0
