"""Certificates: measured on this host, beside the release, signed or not; explain takes the nearest host's."""

import base64
import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
from embed_foundry import Bundle, manifest
from embed_foundry.certify import files
from embed_foundry.certify.certificate import PREDICATE, Certificate
from embed_foundry.certify.host import distance
from embed_foundry.environment import Environment

from stages.commands import sign
from support import small_release
from support.sigstore_server import IDENTITY

# Enough for the fewest samples of the static variant.
QUICK = ("--seconds", "1")


@pytest.fixture
def release(first_release, tmp_path) -> Path:
    """Return a copy of a release of the static variant."""
    return shutil.copytree(first_release, tmp_path / "release")


@pytest.fixture(scope="module")
def certified(make_release, tmp_path_factory) -> Path:
    """Return a copy of a release with one unsigned certificate."""
    from embed_foundry.certify import measure
    from embed_foundry.signing.key_pair import encode_statement

    folder = shutil.copytree(make_release(1, "static"), tmp_path_factory.mktemp("certified") / "release")
    certificate = measure.certify(Bundle.load(folder), budget_s=1)
    statement = certificate.to_statement(manifest.sha256(folder / manifest.NAME))
    files.write(folder, certificate, encode_statement(statement))
    return folder


@pytest.fixture
def copy(certified, tmp_path) -> Path:
    """Return a copy of the certified release that a test may change."""
    shutil.copytree(files.folder_of(certified), tmp_path / "release.certificates")
    return shutil.copytree(certified, tmp_path / "release")


def read_one(release: Path) -> tuple[Path, dict]:
    """Return the file and the content of the only certificate."""
    (path,) = files.folder_of(release).iterdir()
    return path, json.loads(path.read_bytes())


def test_a_release_is_certified_here_and_explain_says_so(release, run_command):
    code, output, errors = run_command("explain", release)
    assert f"Next, there: embed-foundry certify {release}" in output
    code, output, errors = run_command("certify", release, *QUICK)
    assert code == 0, errors
    assert "self-test: the same bytes as at release" in output
    path, statement = read_one(release)
    assert str(path) in output
    assert (statement["_type"], statement["predicateType"]) == ("https://in-toto.io/Statement/v1", PREDICATE)
    assert statement["subject"] == [
        {"name": "manifest.json", "digest": {"sha256": manifest.sha256(release / manifest.NAME)}}
    ]
    certificate = Certificate.parse(statement, Bundle.load(release).digest, manifest.sha256(release / manifest.NAME))
    assert (certificate.passes, certificate.opened, statement["predicate"]["result"]) == (True, "static", "PASSED")
    static = certificate.variants["static"]
    assert {(times.tokens, times.batch) for times in static.times} == {(8, 1), (32, 1), (16, 4)}
    assert all(0 < times.low_ms <= times.median_ms <= times.high_ms for times in static.times)
    assert static.providers == ["cpu"]
    assert 30 < static.peak_rss_mb < 300
    code, output, errors = run_command("explain", release)
    assert "Certified on this kind of host" in output
    assert "unsigned" in output
    assert "Nobody certified" not in output
    assert Bundle.load(release).digest == certificate.digest, "no byte of the release changed"


def test_explain_takes_the_nearest_host_and_says_when_nobody_certified_its_kind(certified, run_command):
    code, output, _ = run_command("explain", certified, "--arch", "aarch64", "--flags", "asimd")
    assert code == 0
    assert "Nobody certified this release on a host of this kind (aarch64: asimd)" in output
    assert "Certified on" not in output
    code, output, _ = run_command("explain", certified, "--arch", "x86_64", "--flags", "avx,amx_int8")
    assert "Nobody certified this release on a host of this kind (x86_64: amx_int8 avx)" in output
    assert "Certified on the nearest host" in output


def test_distance_counts_instruction_sets_and_tells_architectures_apart(certified):
    _, statement = read_one(certified)
    host = Certificate.parse(
        statement, statement["predicate"]["digest"], manifest.sha256(certified / manifest.NAME)
    ).host
    here = Environment.detect()
    assert distance(host, here) == 0
    assert distance(host, Environment("aarch64", here.flags, 4096, here.libraries)) is None
    assert distance(host, Environment(here.arch, here.flags ^ {"avx2", "sse4"}, 4096, here.libraries)) == 1
    assert distance(host, Environment(here.arch, None, 4096, here.libraries)) == 0


def test_a_key_signs_and_only_its_certificates_count_for_whoever_names_it(release, tmp_path, run_command):
    mine, public = sign.generate_key_pair(tmp_path / "mine")
    _, other = sign.generate_key_pair(tmp_path / "other")
    code, output, errors = run_command("certify", release, *QUICK, "--sign-key", mine)
    assert code == 0, errors
    path, envelope = read_one(release)
    assert json.loads(base64.b64decode(envelope["payload"]))["predicateType"] == PREDICATE
    assert "signed, but the signer was not checked" in run_command("explain", release)[1]
    assert f"signed by {public}" in run_command("explain", release, "--key", public)[1]
    output = run_command("explain", release, "--key", other)[1]
    assert "Nobody certified" in output
    assert f"Not counted: {path}" in output
    envelope["payload"] = base64.b64encode(base64.b64decode(envelope["payload"]).replace(b"static", b"statin")).decode()
    path.write_text(json.dumps(envelope))
    assert f"Not counted: {path}" in run_command("explain", release, "--key", public)[1]


def test_an_identity_signs_without_a_key(release, sigstore, monkeypatch, tmp_path, run_command):
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name, value in sigstore.environment.items():
        monkeypatch.setenv(name, value)
    code, output, errors = run_command("certify", release, *QUICK, "--keyless", "--trust", sigstore.trust)
    assert code == 0, errors
    assert IDENTITY in output
    who = ("--identity", IDENTITY, "--issuer", sigstore.url, "--trust", sigstore.trust)
    assert f"signed by {IDENTITY}" in run_command("explain", release, *who)[1]
    stranger = ("--identity", "somebody@else", "--issuer", sigstore.url, "--trust", sigstore.trust)
    assert "Not counted" in run_command("explain", release, *stranger)[1]


def change(statement: dict, part: str, **values: object) -> bytes:
    """Return a statement with other values in a part of its predicate."""
    predicate = statement["predicate"] | {part: statement["predicate"][part] | values}
    return json.dumps(statement | {"predicate": predicate}).encode()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda statement: b"{", "it is not JSON"),
        (lambda statement: b"[]", "it is no JSON object"),
        (lambda statement: json.dumps(statement | {"predicateType": "x"}).encode(), "it is no certificate"),
        (lambda statement: json.dumps(statement | {"predicate": {}}).encode(), "it is no certificate"),
        (lambda statement: json.dumps(statement | {"subject": []}).encode(), "it is about another release"),
        (lambda statement: json.dumps({"payload": "%"}).encode(), "its envelope is not readable"),
        (lambda statement: change(statement, "host", cpu=3), "it is no certificate"),
        (lambda statement: change(statement, "host", cpus=math.inf), "it is no certificate"),
        (lambda statement: change(statement, "variants", static={}), "it is no certificate"),
        (lambda statement: json.dumps(statement).replace('"median_ms": ', '"median_ms": -').encode(), "it is no cert"),
    ],
)
def test_what_is_no_certificate_of_this_release_does_not_count(copy, damage, reason, run_command):
    path, statement = read_one(copy)
    path.write_bytes(damage(statement))
    code, output, errors = run_command("explain", copy)
    assert code == 0, errors
    assert f"Not counted: {path}: {reason}" in output
    assert "Nobody certified" in output


def test_a_variant_that_misses_a_limit_here_ends_with_4_and_the_certificate_says_why(released, tmp_path, run_command):
    resources = released.target.resources.model_copy(update={"memory_mb": 101})  # the gate was told 100 MB
    target = released.target.model_copy(update={"resources": resources, "candidates": ["onnx_int8", "static"]})
    build = small_release.copy(released, tmp_path, target)
    build.judge()
    folder = build.release()
    code, _, errors = run_command("certify", folder, *QUICK, "--threads", "1")
    assert code == 4, errors
    assert "onnx_int8 did not pass on this host" in errors
    _, statement = read_one(folder)
    assert statement["predicate"]["result"] == "FAILED"
    assert "limit 101" in statement["predicate"]["variants"]["onnx_int8"]["faults"][0]
    assert "limit 101" in run_command("explain", folder)[1]


def test_certificates_go_through_a_store_when_published_and_later(first_release, tmp_path, run_command):
    store = ("--store", f"file://{tmp_path / 'store'}")
    release = shutil.copytree(first_release.parent, tmp_path / "build") / "release"
    digest = Bundle.load(release).digest
    assert run_command("publish", release, *store)[0] == 0
    host = tmp_path / "host"
    assert run_command("fetch", digest, host, *store)[0] == 0
    code, _, errors = run_command("certify", host, *QUICK, *store)
    assert (code, "1 new certificate\n" in errors) == (0, True), errors
    assert run_command("fetch", digest, tmp_path / "second", *store)[0] == 0
    assert "Certified on this kind of host" in run_command("explain", tmp_path / "second")[1]
    shutil.copytree(files.folder_of(host), files.folder_of(release))
    assert run_command("publish", release, *store)[0] == 0, "again, with what is there already"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seconds", "0"), "out of range"),
        (("--seconds", "nan"), "out of range"),
        (("--keyless",), "an OIDC token, and there is none here"),
        (("--store", "ftp://nowhere"), "ftp://nowhere"),
        (("--threads", "0"), "out of range"),
        (("--trust", "x.json"), "only --keyless uses"),
        (("--sign-key", "missing.pem"), "not a private key"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(release, run_command, arguments, message):
    code, output, errors = run_command("certify", release, *arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert not files.folder_of(release).exists()


def test_lengths_beyond_the_probes_are_timed_too(release, monkeypatch):
    from embed_foundry.certify import measure

    bundle = Bundle.load(release)
    monkeypatch.setattr(measure, "read_probes", lambda path: [{"text": "one short probe"}, {"text": "and another"}])
    protocol = dataclasses.replace(measure.read_protocol(bundle, 1), lengths=(200,))
    monkeypatch.setattr(measure, "read_protocol", lambda bundle, budget_s: protocol)
    single, batch = measure.certify(bundle, budget_s=1, threads=1).variants["static"].times
    assert (single.tokens, single.batch, batch.tokens, batch.batch) == (200, 1, 16, 4)


def test_what_a_certificate_says_does_not_steer_the_terminal(copy, run_command):
    path, statement = read_one(copy)
    path.write_bytes(change(statement, "host", cpu="A \x1b[31mCPU\nof two lines"))
    assert "Certified on this kind of host: A \\x1b[31mCPU of two lines, " in run_command("explain", copy)[1]


def test_a_folder_in_place_of_a_certificate_does_not_count(copy, run_command):
    path, _ = read_one(copy)
    path.unlink()
    path.mkdir()
    code, output, errors = run_command("explain", copy)
    assert (code, f"Not counted: {path}: it cannot be read" in output) == (0, True), errors


def test_a_release_that_does_not_say_how_it_was_measured_is_not_certified(release, run_command):
    record = json.loads((release / "bundle.json").read_bytes())
    del record["build"]["parameters"]["latency"]
    (release / "bundle.json").write_bytes(manifest.canonical(record))
    small_release.seal(release)
    code, _, errors = run_command("certify", release, *QUICK)
    assert (code, "does not say how its latency was measured" in errors) == (3, True), errors
    assert not files.folder_of(release).exists()
