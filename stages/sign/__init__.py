"""sign: who made a bundle, as a signature over every file and a signed provenance beside it (a command, not a stage).

In: a release bundle, a private key, the checkout that built the bundle.
Out: NAME.signature/ beside the bundle (model.sig, provenance.intoto.json); no byte of the bundle changes.
Fails: 2 the key, or code or configuration that differs from the commit or from what built the bundle, 3 a bundle that
does not verify.
"""

import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from embed_foundry import Bundle, manifest, signature
from embed_foundry.errors import InputError

from stages.common.artifact import publish
from stages.sign import provenance

# What shapes a bundle; results (dvc.lock, gate/) may differ from the commit, for they are committed afterwards.
CODE = ("stages", "conf", "params.yaml", "dvc.yaml", "pyproject.toml", "requirements.lock", "LICENSE")
PUBLIC = ".pub"


def keygen(out: Path) -> tuple[Path, Path]:
    """Make a key pair (elliptic curve P-256, PEM) and return the private and the public file.

    Args:
        out: the private key's file, readable by its owner alone; the public one gets the suffix .pub.

    Raises:
        InputError: a file exists, or cannot be written.
    """
    with signature.libraries():
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    public = out.with_name(out.name + PUBLIC)
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for path, content, mode in ((out, private, 0o600), (public, shown, 0o644)):
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be made ({error.strerror}). A key is never replaced; choose another."
            ) from None
    return out, public


def run(folder: Path, key: Path, root: Path, builder: str) -> Path:
    """Sign a bundle and return the folder with signature and provenance, which was verified before it appeared.

    Args:
        folder: the bundle.
        key: the private key's file, as `keygen` makes it.
        root: the checkout that built the bundle.
        builder: who runs the build, as a URI.

    Raises:
        InputError: the key cannot be read, or the checkout is not the one that built the bundle.
        IntegrityError: the bundle does not verify.
    """
    private = _private(key)
    bundle = Bundle.load(folder)
    commit = _commit(bundle, root)
    statement = provenance.statement(bundle, commit, _remote(root), builder)
    out = signature.folder_of(folder)
    with publish(out, stage="sign", parameters={}, inputs={"bundle": folder}, libraries=("model-signing",)) as work:
        from model_signing import signing

        config = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(signature.hashing())
        config.sign(folder, work / signature.SIGNATURE)
        (work / signature.PROVENANCE).write_bytes(provenance.envelope(statement, private))
    return out


def _private(path: Path) -> Any:  # noqa: ANN401 - cryptography's key
    with signature.libraries():
        import model_signing  # noqa: F401 - missing libraries are told before any work
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a private key in PEM ({error}). `embed-foundry keygen` makes one.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path}: is another kind of key, expected an elliptic curve's. `embed-foundry keygen`.")
    return key


def _commit(bundle: Bundle, root: Path) -> str:
    """Return the checkout's commit after checking that it is what built the bundle, as far as that can be told."""
    changed = _git(root, "status", "--porcelain", "--", *CODE)
    if changed:
        raise InputError(
            f"{root}: differs from its last commit, which the provenance would name:\n{changed}\n"
            "Commit, build, then sign."
        )
    lock = manifest.sha256(root / "requirements.lock")
    if lock != bundle.facts["sources"]["requirements.lock"]:
        raise InputError(f"{bundle.folder}: was built with another requirements.lock than {root}'s. Build it again.")
    with zipfile.ZipFile(bundle.folder / bundle.facts["runtime"]) as wheel:
        for name in wheel.namelist():
            source = root / "stages" / "runtime" / name
            if name.startswith("embed_foundry/") and (not source.is_file() or source.read_bytes() != wheel.read(name)):
                raise InputError(f"{bundle.folder}: its runtime's {name} is not {root}'s. Build it again, then sign.")
    return _git(root, "rev-parse", "HEAD")


def _remote(root: Path) -> str:
    """Return the address of the checkout's origin if it is a public one: paths and credentials stay here."""
    try:
        address = _git(root, "config", "--get", "remote.origin.url")
    except InputError:
        return ""
    scheme, separator, rest = address.partition("://")
    return f"git+https://{rest.rpartition('@')[2]}" if separator and scheme == "https" else ""


def _git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{root}: git {args[0]} failed ({done.stderr.strip()}). Sign in the checkout that built it.")
    return done.stdout.rstrip()
