"""model.source=hub against a local server that speaks the hub's protocol: each fault ends as documented."""

import email.utils
import hashlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from embed_foundry import RetryableError, manifest
from embed_foundry.errors import InputError, IntegrityError, RemoteError

from stages import download
from stages.common.sources.hub import Connection
from support import tiny_model
from support.hub_server import Fault, HubServer

TOKEN = "hf_aVerySecretToken"
WEIGHTS = "model.safetensors"
ATTEMPTS = 3


@pytest.fixture
def fetch(hub, tmp_path):
    """Return a function that runs the stage against the server and returns its output folder."""

    def run(*, pinned=True, out="base", attempts=ATTEMPTS, offline=False, contents=None, **changes):
        connection = Connection(
            hub.url, tmp_path / "cache", TOKEN, offline, attempts, wait_s=0.01, longest_wait_s=2, timeout_s=0.5
        )
        model = tiny_model.config(contents or tiny_model.files(), pinned=pinned, **changes)
        download.run(model, tmp_path / out, connection)
        return tmp_path / out

    return run


def assert_upstream(out: Path, contents: dict[str, bytes]) -> None:
    manifest.verify(out)
    assert manifest.files_of(out) == sorted(contents)
    assert {name: (out / name).read_bytes() for name in contents} == contents


@pytest.mark.parametrize("pinned", [True, False])
def test_fetches_upstreams_bytes_and_sends_the_token_to_the_hub_only(hub, fetch, pinned, capfd):
    hub.files["evil.py"] = b"raise SystemExit"
    out = fetch(pinned=pinned)
    assert_upstream(out, tiny_model.files())
    assert hub.count("file", WEIGHTS) == 1
    assert hub.count("file", "evil.py") == hub.count("head", "evil.py") == 0
    assert {hit.authorization for hit in hub.hits if hit.endpoint in {"api", "head"}} == {f"Bearer {TOKEN}"}
    assert {hit.authorization for hit in hub.hits if hit.endpoint == "file" and hit.name == WEIGHTS} == {None}
    assert TOKEN not in "".join(capfd.readouterr())


def test_writes_the_same_folder_as_other_sources(fetch, tmp_path):
    tiny_model.run_download(tiny_model.write(tmp_path / "mine"), tmp_path / "other", pinned=True)
    assert (fetch() / manifest.NAME).read_bytes() == (tmp_path / "other" / manifest.NAME).read_bytes()


def test_a_warm_cache_needs_no_network_and_gives_the_same_folder(hub, fetch):
    first = manifest.read(fetch()).digest
    hub.hits.clear()
    assert manifest.read(fetch(out="again")).digest == first
    assert manifest.read(fetch(out="offline", offline=True)).digest == first
    assert hub.hits == []


def test_a_cold_cache_offline_is_an_input_error(fetch):
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set and the cache lacks"):
        fetch(offline=True)


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_same_size_wrong_bytes_leave_the_cache_and_the_next_run_is_good(hub, fetch, tmp_path, name, pinned):
    hub.faults = [Fault("file", name, corrupt=True)]
    with pytest.raises(IntegrityError, match=name) as caught:
        fetch(pinned=pinned)
    assert "removed from the cache" in str(caught.value)
    assert not list((tmp_path / "cache").glob(f"**/snapshots/*/{name}"))
    assert not (tmp_path / "base").exists()
    hub.faults = []
    assert_upstream(fetch(pinned=pinned), tiny_model.files())


@pytest.mark.parametrize("pinned", [True, False])
def test_a_rotten_cache_is_fetched_again_and_refused_offline(hub, fetch, tmp_path, pinned):
    shutil.rmtree(fetch(pinned=pinned))
    blob = next((tmp_path / "cache").glob(f"**/snapshots/*/{WEIGHTS}")).resolve()
    *good, last = blob.read_bytes()
    wrong = bytes([*good, last ^ 1])
    blob.write_bytes(wrong)
    assert_upstream(fetch(pinned=pinned), tiny_model.files())
    assert hub.count("file", WEIGHTS) == 2
    blob.write_bytes(wrong)
    with pytest.raises(IntegrityError, match=WEIGHTS):
        fetch(pinned=pinned, offline=True, out="offline")


def test_a_pin_that_is_not_the_commits_says_so(hub, fetch):
    files = dict.fromkeys(tiny_model.files()) | {WEIGHTS: "0" * 64}
    with pytest.raises(IntegrityError, match="as the hub declares: the pin is another commit's"):
        fetch(files=files)


REFUSALS = {
    "gated, no token": ("head", 401, {"X-Error-Code": "GatedRepo"}, False, "gated .HTTP 401"),
    "gated, not accepted": ("head", 403, {"X-Error-Code": "GatedRepo"}, False, "Accept the licence Terms of Tiny"),
    "gated, bare 403": ("head", 403, {}, True, "set HF_TOKEN"),
    "gated, listing": ("api", 401, {"X-Error-Code": "GatedRepo"}, True, "gated .HTTP 401"),
    "bad token": ("api", 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, False, "bad token"),
    "private": ("head", 403, {}, False, "access refused .HTTP 403"),
    "no repository": ("api", 404, {"X-Error-Code": "RepoNotFound"}, False, "no such repository"),
    "no commit": ("api", 404, {"X-Error-Code": "RevisionNotFound"}, False, "no such commit .HTTP 404.*commits/main"),
    "no commit, file": ("head", 404, {"X-Error-Code": "RevisionNotFound"}, False, "no such commit"),
    "no file": ("head", 404, {"X-Error-Code": "EntryNotFound"}, False, "Correct model.files"),
    "teapot": ("api", 418, {}, False, "refused .HTTP 418"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_final_and_does_not_show_the_token(hub, fetch, tmp_path, capfd, case):
    endpoint, status, headers, gated, expected = REFUSALS[case]
    hub.faults = [Fault(endpoint, status=status, headers=headers)]
    licence = {"name": "Terms of Tiny", "url": "https://example.org/terms", "gated": gated}
    with pytest.raises(RemoteError, match=expected) as caught:
        fetch(license=licence)
    assert hub.count(endpoint) == 1
    assert TOKEN not in str(caught.value) + "".join(capfd.readouterr())
    assert not (tmp_path / "base").exists()


def test_files_that_the_hub_lacks_are_refused_before_any_download(hub, fetch):
    contents = tiny_model.files() | {"vocab.txt": b"a"}
    with pytest.raises(RemoteError, match=r"has no vocab.txt, which model.files lists"):
        fetch(contents=contents)
    assert hub.count("head") == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("endpoint", ["api", "head", "file"])
def test_transient_errors_are_retried(hub, fetch, endpoint, status):
    hub.faults = [Fault(endpoint, None if endpoint == "api" else WEIGHTS, times=2, status=status)]
    assert_upstream(fetch(), tiny_model.files())
    assert hub.count(endpoint, hub.faults[0].name) == 3


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("endpoint", ["api", "head", "file"])
def test_permanent_errors_end_as_unavailable(hub, fetch, tmp_path, endpoint, status):
    hub.faults = [Fault(endpoint, status=status)]
    with pytest.raises(RetryableError, match="hub unavailable"):
        fetch()
    assert hub.count(endpoint) == ATTEMPTS
    assert not (tmp_path / "base").exists()


def test_retry_after_is_honoured(hub, fetch):
    hub.faults = [Fault("api", times=1, status=429, headers={"Retry-After": "1"})]
    start = time.monotonic()
    fetch()
    assert time.monotonic() - start >= 1


WAITS = {
    "seconds": {"Retry-After": "3600"},
    "date": {"Retry-After": "in an hour"},
    "rate limit": {"RateLimit": '"api";r=0;t=3600', "RateLimit-Policy": '"fixed window";"api";q=500;w=3600'},
}


@pytest.mark.parametrize("case", WAITS)
def test_a_wait_beyond_the_longest_ends_at_once(hub, fetch, case):
    in_an_hour = {"Retry-After": email.utils.formatdate(time.time() + 3600, usegmt=True)}
    hub.faults = [Fault("api", status=429, headers=in_an_hour if case == "date" else WAITS[case])]
    with pytest.raises(RetryableError, match=r"HTTP 429, and it asks to wait 3[56].. s"):
        fetch()
    assert hub.count("api") == 1


@pytest.mark.parametrize("endpoint", ["api", "head"])
def test_no_answer_ends_as_unavailable(hub, fetch, endpoint):
    hub.faults = [Fault(endpoint, stall_s=1.5)]
    with pytest.raises(RetryableError, match=r"hub unavailable.*imeout"):
        fetch(attempts=2)


@pytest.mark.parametrize("address", ["http://hub.invalid", "http://127.0.0.1:9"])
def test_no_server_ends_as_unavailable(tmp_path, address):
    connection = Connection(address, tmp_path / "cache", offline=False, attempts=2, wait_s=0.01)
    with pytest.raises(RetryableError, match=f"hub unavailable.*{address}"):
        download.run(tiny_model.config(), tmp_path / "base", connection)


def test_a_body_cut_every_time_ends_as_unavailable_and_the_next_run_is_good(hub, fetch, tmp_path):
    hub.faults = [Fault("file", WEIGHTS, cut=100)]
    with pytest.raises(RetryableError, match=f"hub unavailable.*{WEIGHTS}"):
        fetch()
    assert not (tmp_path / "base").exists()
    hub.faults = []
    assert_upstream(fetch(), tiny_model.files())
    assert ranges(hub) == [None, "bytes=100-", "bytes=200-", "bytes=300-"], "each try continues, the next run's too"


def ranges(hub: HubServer) -> list[str | None]:
    """Return the ranges of the requests for the weights."""
    return [hit.range for hit in hub.hits if hit.endpoint == "file" and hit.name == WEIGHTS]


@pytest.mark.parametrize("how", [{}, {"ignore_range": True}, {"gzipped": True}])
def test_a_broken_download_continues_where_it_stopped(hub, fetch, how):
    hub.files[WEIGHTS] = tiny_model.weights(unread=np.arange(3 << 20, dtype=np.float32))
    hub.faults = [Fault("file", WEIGHTS, times=1, cut=11 << 20), Fault("file", WEIGHTS, **how)]
    assert_upstream(fetch(contents=hub.files), hub.files)
    assert ranges(hub) == [None, "bytes=11534336-"]


def test_a_partial_download_that_is_too_long_is_dropped(hub, fetch, tmp_path):
    blobs = tmp_path / "cache" / "models--someone--tiny" / "blobs"
    blobs.mkdir(parents=True)
    name = hashlib.sha256(tiny_model.files()[WEIGHTS]).hexdigest()
    (blobs / f"{name}.incomplete").write_bytes(b"?" * 50_000)
    assert_upstream(fetch(), tiny_model.files())
    assert ranges(hub) == ["bytes=50000-", None]


def test_a_wrong_size_is_requested_again(hub, fetch):
    hub.faults = [Fault("head", WEIGHTS, times=1, size=99)]
    assert_upstream(fetch(), tiny_model.files())
    assert hub.count("head", WEIGHTS) == 2


def test_a_compressed_body_is_decompressed(hub, fetch):
    hub.faults = [Fault("file", gzipped=True)]
    assert_upstream(fetch(), tiny_model.files())


def test_an_answer_without_etag_is_refused(hub, fetch):
    hub.faults = [Fault("head", drop_etag=True)]
    with pytest.raises(IntegrityError, match="names no commit, ETag or size"):
        fetch()


def test_an_answer_that_is_not_json_is_refused(hub, fetch):
    hub.faults = [Fault("api", status=200, body=b"<html>Please log in to this network")]
    with pytest.raises(IntegrityError, match="the answer is not a hub's"):
        fetch()


@pytest.mark.parametrize("name", ["../outside.json", "/outside.json", r"..\outside.json"])
def test_a_file_outside_the_repository_is_refused(hub, fetch, name):
    hub.files[name] = b"{}"
    with pytest.raises(IntegrityError, match="lists a file outside the repository"):
        fetch()


def test_the_same_bytes_under_two_names_are_fetched_once(hub, fetch):
    hub.files["copy.safetensors"] = hub.files[WEIGHTS]
    assert_upstream(fetch(contents=hub.files), hub.files)
    assert hub.count("file", WEIGHTS) + hub.count("file", "copy.safetensors") == 1


def test_too_small_a_disk_is_refused_before_any_download(hub, fetch, tmp_path):
    hub.faults = [Fault("api", size=10**15)]
    with pytest.raises(RetryableError, match="of free disk, has"):
        fetch()
    assert hub.count("head") == hub.count("file") == 0
