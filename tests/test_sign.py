"""Signatures and provenance of a bundle: they name what differs, and signing never changes the bundle."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from embed_foundry import Bundle, InputError, IntegrityError, Key, archive, manifest, open_bundle, signature
from embed_foundry.signing.key_pair import build_envelope, load_private_key

from stages.commands import sign
from stages.commands.sign import KeyPairSigner, provenance, signing
from support.small_release import git, refit

BUILDER = "urn:test:builder"


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, Path]:
    """Return the private keys "mine" and "other"."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: sign.generate_key_pair(folder / name)[0] for name in ("mine", "other")}


def public_key(key: Path) -> Path:
    return key.with_name(key.name + ".pub")


@pytest.fixture(scope="module")
def signed(released, keys, checkout, tmp_path_factory) -> Path:
    """Return a signed copy of the bundle, which a test may change if it changes it back."""
    folder = shutil.copytree(released.folder, tmp_path_factory.mktemp("signed") / "release")
    sign.run(folder, KeyPairSigner(keys["mine"]), checkout, BUILDER)
    return folder


def verify(folder: Path, key: Path, console) -> tuple[int, str, str]:
    result = console("verify", folder, "--key", key)
    return result.returncode, result.stdout, result.stderr


def test_signing_changes_no_byte_of_the_bundle(released, signed):
    assert manifest.verify(signed).digest == manifest.read(released.folder).digest
    assert (signed / manifest.NAME).read_bytes() == (released.folder / manifest.NAME).read_bytes()
    folder = signed.with_name("release.signature")
    assert {path.name for path in folder.iterdir()} == {"model.sig", "provenance.intoto.json", "manifest.json"}


def test_the_right_key_opens_and_the_commit_is_shown(signed, keys, checkout, console):
    code, out, err = verify(signed, public_key(keys["mine"]), console)
    assert (code, err) == (0, "")
    assert (
        out.splitlines()[-2]
        == f"signed by {public_key(keys['mine'])}, built from commit {git(checkout, 'rev-parse', 'HEAD')}"
    )
    assert open_bundle(signed, "static", key=public_key(keys["mine"])).variant.name == "static"
    assert "the signer was not checked: give --key" in console("verify", signed).stdout


def test_another_key_is_refused(signed, keys, console):
    code, out, err = verify(signed, public_key(keys["other"]), console)
    assert (code, out) == (3, "")
    assert f"not a valid signature by {public_key(keys['other'])}" in err
    assert len(err.splitlines()) == 1


def test_an_unsigned_bundle_is_refused_where_a_key_is_required(released, keys, console):
    code, out, err = verify(released.folder, public_key(keys["mine"]), console)
    assert (code, out) == (3, "")
    assert "is unsigned" in err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("README.md", "Hash mismatch for 'README.md'"),
        (".gitattributes", "Hash mismatch for '.gitattributes'"),
        (".gitignore", "Extra files found"),
    ],
)
def test_a_change_whose_manifest_fits_is_named_by_the_signature(signed, keys, tmp_path, name, message):
    folder = shutil.copytree(signed, tmp_path / "release")
    shutil.copytree(signature.folder_of(signed), signature.folder_of(folder))
    with (folder / name).open("a") as file:
        file.write("more")
    refit(folder)
    Bundle.load(folder)  # without a key nobody notices
    with pytest.raises(IntegrityError, match=message) as caught:
        Bundle.load(folder, Key(public_key(keys["mine"])))
    assert name in str(caught.value)
    assert "Digest(" not in str(caught.value)


def error_with(path: Path, content: bytes, load) -> str:
    """Return the error of a load while a file holds other bytes."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        with pytest.raises(IntegrityError) as caught:
            load()
    finally:
        path.write_bytes(before)
    return str(caught.value)


def read_statement(path: Path) -> dict:
    return json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))


def test_provenance_of_others_is_refused(signed, keys):
    path = signature.folder_of(signed) / signature.PROVENANCE
    load = lambda: Bundle.load(signed, Key(public_key(keys["mine"])))  # noqa: E731
    mine, other = (load_private_key(keys[name]) for name in ("mine", "other"))
    content = read_statement(path)
    forged = build_envelope(content, other)
    assert "not a valid signature" in error_with(path, forged, load)
    elsewhere = content | {"subject": [{**file, "digest": {"sha256": "0" * 64}} for file in content["subject"]]}
    assert "signs a .gitattributes that differs" in error_with(path, build_envelope(elsewhere, mine), load)
    fewer = content | {"subject": content["subject"][1:]}
    assert "signs a .gitattributes that differs" in error_with(path, build_envelope(fewer, mine), load)
    kind = content | {"predicateType": "https://example.org/other"}
    assert "expected SLSA provenance v1" in error_with(path, build_envelope(kind, mine), load)
    envelope = json.loads(path.read_text())
    edited = base64.b64encode(json.dumps(content | {"more": 1}).encode()).decode()
    assert "not a valid signature" in error_with(path, json.dumps(envelope | {"payload": edited}).encode(), load)
    for broken in (b"", b"{}", b"[]", b"\xff"):
        assert "not a valid signature" in error_with(path, broken, load)
        assert "not a valid signature" in error_with(path.with_name(signature.SIGNATURE), broken, load)
    load()


def test_provenance_holds_sources_parameters_lock_commit_and_no_clock(signed, checkout, released):
    content = read_statement(signature.folder_of(signed) / signature.PROVENANCE)
    commit = git(checkout, "rev-parse", "HEAD")
    assert content == provenance.build_statement(Bundle.load(signed), commit, "", BUILDER), "another run gives the same"
    definition = content["predicate"]["buildDefinition"]
    sources = {item["name"]: item for item in definition["resolvedDependencies"]}
    assert sources["source"]["digest"] == {"gitCommit": commit}
    assert sources["requirements.lock"]["digest"] == {"sha256": manifest.sha256(checkout / "requirements.lock")}
    assert sources["model"]["uri"] == f"pkg:huggingface/{released.model.repo}@{released.model.revision}"
    weights = released.model.files["model.safetensors"]
    assert sources["weights/model.safetensors"]["digest"] == {"sha256": weights}
    assert definition["externalParameters"]["target"]["name"] == released.target.name
    assert definition["externalParameters"]["variants"]["static"]["kind"] == "static"
    assert content["predicate"]["runDetails"] == {"builder": {"id": BUILDER}}
    subject = {item["name"]: item["digest"]["sha256"] for item in content["subject"]}
    assert set(subject) == {*manifest.files_of(signed), manifest.NAME}
    assert subject["bundle.json"] == manifest.sha256(signed / "bundle.json")


def test_an_archive_carries_the_signature(signed, keys, tmp_path, console):
    packed = archive.pack(Bundle.load(signed), tmp_path / "release.tar")
    result = console("unpack", packed, "--into", tmp_path / "unpacked", "--key", public_key(keys["mine"]))
    assert (result.returncode, result.stderr) == (0, "")
    assert "signed by" in result.stdout
    other = console("unpack", packed, "--into", tmp_path / "other", "--key", public_key(keys["other"]))
    assert (other.returncode, list((tmp_path / "other").iterdir())) == (3, [])


def test_signing_again_replaces_the_signature(signed, keys, checkout, tmp_path):
    folder = shutil.copytree(signed, tmp_path / "release")
    for name in ("other", "mine"):
        sign.run(folder, KeyPairSigner(keys[name]), checkout, BUILDER)
        Bundle.load(folder, Key(public_key(keys[name])))


def test_a_checkout_that_did_not_build_it_cannot_sign(released, keys, checkout, tmp_path):
    def refused(change, commit: bool = True) -> str:
        copy = shutil.copytree(checkout, tmp_path / "copy", symlinks=True)
        change(copy)
        if commit:
            git(copy, "commit", "--quiet", "--all", "--message", "more", "--allow-empty")
        try:
            with pytest.raises(InputError) as caught:
                sign.run(released.folder, KeyPairSigner(keys["mine"]), copy, BUILDER)
        finally:
            shutil.rmtree(copy)
        return str(caught.value)

    def append(name: str):
        return lambda folder: (folder / name).write_text((folder / name).read_text() + "\n# more\n")

    code = "stages/runtime/embed_foundry/encoders/onnx.py"
    message = refused(append(code), commit=False)
    assert "differs from its last commit" in message
    assert code in message
    assert "its runtime's embed_foundry/encoders/onnx.py differs from" in refused(append(code))
    assert "its requirements.lock differs from" in refused(append("requirements.lock"))
    assert "Sign in the checkout that built" in refused(lambda folder: shutil.rmtree(folder / ".git"), commit=False)
    assert not signature.folder_of(released.folder).exists()


def test_public_addresses_are_recorded_and_private_ones_are_not(checkout, tmp_path):
    copy = shutil.copytree(checkout, tmp_path / "copy", symlinks=True)
    assert signing._read_public_remote(copy) == ""
    git(copy, "remote", "add", "origin", "/some/folder")
    assert signing._read_public_remote(copy) == ""
    git(copy, "remote", "set-url", "origin", "https://me:secret@example.org/a/b.git")
    assert signing._read_public_remote(copy) == "git+https://example.org/a/b.git"


def test_keygen_makes_a_secret_once(tmp_path, console):
    result = console("keygen", tmp_path / "k")
    assert result.returncode == 0
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    again = console("keygen", tmp_path / "k")
    assert again.returncode == 2
    assert "A key is never replaced" in again.stderr
    assert console("keygen", tmp_path / "none" / "k").returncode == 2


def test_what_is_not_a_key_is_refused(signed, checkout, keys, tmp_path):
    (tmp_path / "text").write_text("no key")
    private = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "ed"]
    subprocess.run(private, capture_output=True, check=True)
    public = ["openssl", "pkey", "-in", tmp_path / "ed", "-pubout", "-out", tmp_path / "ed.pub"]
    subprocess.run(public, capture_output=True, check=True)
    for wrong in (tmp_path / "none", tmp_path / "text", keys["mine"], tmp_path / "ed.pub"):
        with pytest.raises(InputError, match=r"expected an elliptic.curve|not a public key"):
            Bundle.load(signed, Key(wrong))
    for wrong in (tmp_path / "none", tmp_path / "text", public_key(keys["mine"]), tmp_path / "ed"):
        with pytest.raises(InputError, match=r"expected an elliptic-curve key|not a private key"):
            sign.run(signed, KeyPairSigner(wrong), checkout, BUILDER)


@pytest.mark.parametrize(
    "missing", ["model_signing", "securesystemslib.dsse", "cryptography.hazmat.primitives.asymmetric"]
)
def test_without_the_extra_a_key_names_what_to_install(signed, keys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"pip install 'embed_foundry\[verify\]'"):
        Bundle.load(signed, Key(public_key(keys["mine"])))
    monkeypatch.undo()
    Bundle.load(signed)


def test_model_signings_own_tool_agrees(signed, keys, tmp_path):
    tool = Path(sys.executable).with_name("model_signing")
    check = [tool, "verify", "key", signed, "--no-ignore-git-paths", "--public_key", public_key(keys["mine"])]
    path = signature.folder_of(signed) / signature.SIGNATURE
    result = subprocess.run([*check, "--signature", path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
