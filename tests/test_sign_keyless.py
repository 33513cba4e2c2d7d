"""Keyless signing against a Sigstore instance of our own: sigstore itself checks who signed; nothing is patched."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import (
    Bundle,
    Identity,
    InputError,
    IntegrityError,
    Key,
    RetryableError,
    manifest,
    open_bundle,
    signature,
)
from embed_foundry.store import fetch, open_store

from stages.commands import sign
from stages.commands.publish import publish
from support.sigstore_server import IDENTITY, SigstoreServer
from support.small_release import refit

BUILDER = "urn:test:builder"


@pytest.fixture(autouse=True)
def runner(sigstore, monkeypatch, tmp_path_factory):
    """Run as a CI job with `id-token: write`, in a home without Sigstore's keys."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path_factory.getbasetemp() / "home"))
    for name, value in sigstore.environment.items():
        monkeypatch.setenv(name, value)
    yield
    sigstore.broken.clear()


@pytest.fixture(scope="module")
def signed(make_release, checkout, sigstore, tmp_path_factory) -> Path:
    """Return a signed copy of a release, in a build's folder of its own; tests that change something take a copy."""
    folder = tmp_path_factory.mktemp("keyless") / "build"
    shutil.copytree(make_release(1, "static").parent, folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sigstore.environment.items():
            patch.setenv(name, value)
        result = sign.run(folder / "release", sign.KeylessSigner(sigstore.trust), checkout, BUILDER)
    assert result.identity == identity_of(sigstore)
    return folder / "release"


@pytest.fixture
def copy(signed, tmp_path) -> Path:
    """Return a copy of the signed release that a test may change."""
    folder = shutil.copytree(signed, tmp_path / "release")
    shutil.copytree(signature.folder_of(signed), signature.folder_of(folder))
    return folder


def identity_of(sigstore: SigstoreServer) -> Identity:
    return Identity(IDENTITY, sigstore.url, sigstore.trust)


def options(sigstore: SigstoreServer, **other: object) -> list[str]:
    """Return who must have signed, as options of a command."""
    values = {"identity": IDENTITY, "issuer": sigstore.url, "trust": sigstore.trust} | other
    return [str(part) for name, value in values.items() if value is not None for part in (f"--{name}", value)]


def test_ci_signs_as_its_workflow_and_others_verify_it(
    make_release, checkout, sigstore, run_command, tmp_path, monkeypatch
):
    folder, logged = shutil.copytree(make_release(1, "static"), tmp_path / "release"), len(sigstore.leaves)
    monkeypatch.chdir(checkout)
    code, out, err = run_command("sign", folder, "--keyless", "--trust", sigstore.trust)
    assert (code, err) == (0, "")
    assert out == f"{signature.folder_of(folder)}: signed {folder} as {IDENTITY} ({sigstore.url})"
    assert len(sigstore.leaves) - logged == 2, "both files' signatures are in the public log"
    for name in sigstore.environment:
        monkeypatch.delenv(name)
    code, out, err = run_command("verify", folder, *options(sigstore))
    assert (code, err) == (0, "")
    assert f"signed by {IDENTITY} ({sigstore.url}), built from commit" in out
    assert "give --key PUBLIC_KEY, or --identity and --issuer" in run_command("verify", folder)[1]
    opened = open_bundle(folder, key=None, identity=IDENTITY, issuer=sigstore.url, trust=str(sigstore.trust))
    assert opened.variant.name == "static"
    assert manifest.verify(folder).digest == manifest.read(make_release(1, "static")).digest


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"identity": IDENTITY.replace("main", "mine")}, f"actual SANs: {{'{IDENTITY}'}}"),
        ({"identity": "https://github.com/o/r"}, "SANs do not match https://github.com/o/r"),
        ({"issuer": "https://token.actions.githubusercontent.com"}, "OIDCIssuer does not match"),
        ({"trust": None}, "sigstore plumbing update-trust-root"),
    ],
    ids=["branch", "identity", "issuer", "instance"],
)
def test_others_are_refused(signed, sigstore, run_command, other, message):
    code, out, err = run_command("verify", signed, *options(sigstore, **other))
    assert (code, out) == (3, "")
    assert "model.sig: not a valid signature by" in err
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_certificate_of_another_authority_is_refused(signed, sigstore, tmp_path):
    with SigstoreServer(tmp_path) as other:
        theirs = Identity(IDENTITY, sigstore.url, other.trust)
        with pytest.raises(IntegrityError, match=r"certificate chain.*whether .*trust.json is of the same Sigstore"):
            Bundle.load(signed, theirs)


def test_a_changed_file_is_named(copy, sigstore):
    with (copy / "README.md").open("a") as file:
        file.write("more")
    with pytest.raises(IntegrityError, match=r"README.md: has"):
        Bundle.load(copy, identity_of(sigstore))
    refit(copy)
    Bundle.load(copy)  # without a signer nobody notices
    with pytest.raises(IntegrityError, match=r"Hash mismatch for 'README.md'"):
        Bundle.load(copy, identity_of(sigstore))


def test_signatures_of_another_release_are_refused(copy, make_release, checkout, sigstore, tmp_path):
    other = shutil.copytree(make_release(2, "static"), tmp_path / "other")
    sign.run(other, sign.KeylessSigner(sigstore.trust), checkout, BUILDER)
    for name, message in (("model.sig", "Hash mismatch for"), ("provenance.intoto.json", "that differs from")):
        path = signature.folder_of(copy) / name
        own = path.read_bytes()
        shutil.copy(signature.folder_of(other) / name, path)
        with pytest.raises(IntegrityError, match=message):
            Bundle.load(copy, identity_of(sigstore))
        path.write_bytes(own)
    shutil.copy(path.with_name("model.sig"), path)
    with pytest.raises(IntegrityError, match="expected SLSA provenance v1"):
        Bundle.load(copy, identity_of(sigstore))


@pytest.mark.parametrize("name", ["model.sig", "provenance.intoto.json"])
def test_no_part_of_a_signature_can_be_exchanged(copy, sigstore, name):
    path = signature.folder_of(copy) / name
    whole, other_signature = path.read_text(), base64.b64encode(b"0" * 70).decode()

    def refused(change) -> None:
        content = json.loads(whole)
        change(content, content["verificationMaterial"]["tlogEntries"][0])
        path.write_text(json.dumps(content))
        with pytest.raises(IntegrityError, match="not a valid signature by"):
            Bundle.load(copy, identity_of(sigstore))

    refused(lambda content, _: content["dsseEnvelope"].update(payload=base64.b64encode(b"{}").decode()))
    refused(lambda content, _: content["dsseEnvelope"]["signatures"][0].update(sig=other_signature))
    refused(lambda content, _: content["verificationMaterial"].update(tlogEntries=[]))
    refused(lambda _, entry: entry.update(integratedTime=str(int(entry["integratedTime"]) - 60)))
    refused(lambda _, entry: entry.pop("inclusionPromise"))
    refused(lambda _, entry: entry["inclusionProof"].update(rootHash=base64.b64encode(b"0" * 32).decode()))
    refused(lambda _, entry: entry["inclusionProof"]["checkpoint"].update(envelope="test\n1\nAAAA\n\n"))
    path.write_text(whole)
    Bundle.load(copy, identity_of(sigstore))


def test_keys_and_identities_do_not_stand_in_for_each_other(copy, checkout, sigstore, tmp_path):
    private, public = sign.generate_key_pair(tmp_path / "k")
    with pytest.raises(
        IntegrityError, match=r"not a valid signature by .*k.pub \(it is signed keyless: give --identity"
    ):
        Bundle.load(copy, Key(public))
    sign.run(copy, sign.KeyPairSigner(private), checkout, BUILDER)
    Bundle.load(copy, Key(public))
    with pytest.raises(IntegrityError, match="it is signed with a key pair: give --key"):
        Bundle.load(copy, identity_of(sigstore))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--key", "k.pub", "--identity", "a", "--issuer", "b"], "a key and an identity were given"),
        (["--key", "k.pub", "--trust", "t"], "a key and an identity were given"),
        (["--identity", "a"], "an issuer is missing"),
        (["--issuer", "b"], "an identity is missing"),
        (["--trust", "t"], "an identity is missing"),
        (["--identity", "a", "--issuer", "b", "--trust", "none"], "none: cannot be used"),
        (["--identity", "a", "--issuer", "b", "--trust", "params.yaml"], "Expected a ClientTrustConfig"),
    ],
)
def test_who_signed_must_be_named_completely(signed, run_command, args, message):
    code, out, err = run_command("verify", signed, *args)
    assert (code, out, message in err, len(err.splitlines())) == (2, "", True, 1), err


def test_a_signer_is_named_once(signed, run_command):
    assert run_command("sign", signed)[0] == 2
    assert run_command("sign", signed, "--key", "k", "--keyless")[0] == 2
    code, _, err = run_command("sign", signed, "--key", "k", "--trust", "t")
    assert (code, "--trust names a Sigstore instance" in err) == (2, True)


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("/token", 403, 5, "refused (GitHub: OIDC token request failed (code=403"),
        ("/token", 500, 75, "the OIDC token's issuer is unavailable"),
        ("/api/v2/signingCert", 403, 5, "Sigstore refused (403"),
        ("/api/v2/signingCert", 503, 75, "Sigstore is unavailable (503"),
        ("/api/v1/log/entries", 400, 5, "Sigstore refused (400"),
        ("/api/v1/log/entries", 429, 75, "Sigstore is unavailable (429"),
    ],
)
def test_what_sigstore_refuses_leaves_nothing(
    make_release, checkout, sigstore, run_command, tmp_path, monkeypatch, path, status, code, message
):
    folder = shutil.copytree(make_release(1, "static"), tmp_path / "release")
    monkeypatch.chdir(checkout)
    sigstore.broken[path] = status
    exit_code, out, err = run_command("sign", folder, "--keyless", "--trust", sigstore.trust)
    assert (exit_code, out, message in err) == (code, "", True), err
    assert len(err.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")} == {"release"}


def test_an_instance_that_is_down_may_be_back_later(signed, checkout, tmp_path):
    with SigstoreServer(tmp_path) as gone:
        pass
    with pytest.raises(RetryableError, match="cannot be reached"):
        sign.run(signed, sign.KeylessSigner(gone.trust), checkout, BUILDER)


def test_without_a_token_the_next_step_is_named(signed, checkout, sigstore, monkeypatch):
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL")
    with pytest.raises(InputError, match=r"permissions: id-token: write.*ACTIONS_ID_TOKEN_REQUEST_URL"):
        sign.run(signed, sign.KeylessSigner(sigstore.trust), checkout, BUILDER)
    monkeypatch.delenv("GITHUB_ACTIONS")
    with pytest.raises(InputError, match="a person: run it in a terminal"):
        sign.run(signed, sign.KeylessSigner(sigstore.trust), checkout, BUILDER)


def test_archives_and_stores_keep_the_signature(signed, sigstore, run_command, tmp_path, monkeypatch):
    other = options(sigstore, identity="https://github.com/o/r")
    assert run_command("pack", signed, "--out", tmp_path / "release.tar")[0] == 0
    code, out, _ = run_command("unpack", tmp_path / "release.tar", "--into", tmp_path / "unpacked", *options(sigstore))
    assert (code, f"signed by {IDENTITY}" in out) == (0, True)
    assert run_command("unpack", tmp_path / "release.tar", "--into", tmp_path / "other", *other)[0] == 3

    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"file://{tmp_path / 'store'}")
    code, digest, _ = run_command("publish", signed)
    assert code == 0
    fetched = tmp_path / "fetched"
    assert run_command("fetch", digest, fetched, *other)[0] == 3
    assert not fetched.exists(), "verified before it appears"
    assert not signature.folder_of(fetched).exists()
    assert run_command("fetch", digest, fetched, *options(sigstore))[0] == 0
    assert run_command("fetch", digest, fetched, *other)[0] == 3, "also when it exists already"
    Bundle.load(fetched, identity_of(sigstore))


def test_a_release_that_is_unsigned_in_its_store_is_not_fetched_as_signed(make_release, sigstore, tmp_path):
    store = open_store(f"file://{tmp_path / 'store'}", None)
    release = make_release(2, "static")
    digest = publish(store, release, release.parent).digest
    with pytest.raises(IntegrityError, match="has no signature, expected one by"):
        fetch(store, digest, tmp_path / "fetched", signer=identity_of(sigstore))
    assert not (tmp_path / "fetched").exists()


def test_model_signings_own_tool_agrees(signed, sigstore):
    tool = Path(sys.executable).with_name("model_signing")
    signer = ["--identity", IDENTITY, "--identity_provider", sigstore.url, "--trust_config", sigstore.trust]
    paths = ["--signature", signature.folder_of(signed) / signature.SIGNATURE, "--no-ignore-git-paths"]
    command = [tool, "verify", "sigstore", signed, *paths, *signer]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
