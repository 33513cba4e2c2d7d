"""Signs one bundle: every file, and where it comes from."""

import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from embed_foundry import Bundle, Identity, manifest, signature
from embed_foundry.errors import InputError

from stages.commands.sign import provenance
from stages.commands.sign.keyless import Keyless
from stages.commands.sign.pair import Pair
from stages.common.contract.output import stage_output
from stages.common.records.bundle import BundleRecord

# What shapes a bundle; results (dvc.lock, gate/) may differ from the commit, for they are committed afterwards.
CODE = ("stages", "conf", "params.yaml", "dvc.yaml", "pyproject.toml", "requirements.lock", "LICENSE")


@dataclass(frozen=True)
class Signed:
    """What `run` did.

    Attributes:
        folder: holds signature and provenance.
        identity: as whom, for verifiers; None with a key pair.
    """

    folder: Path
    identity: Identity | None


def run(folder: Path, signer: Pair | Keyless, root: Path, builder: str) -> Signed:
    """Sign a bundle, which is verified before.

    Args:
        folder: the bundle.
        signer: with what.
        root: the checkout that built the bundle.
        builder: who runs the build, as a URI.

    Raises:
        InputError: the signer cannot sign, or the checkout is not the one that built the bundle.
        IntegrityError: the bundle does not verify, or what Sigstore issued does not.
        RemoteError: Sigstore refused.
        RetryableError: Sigstore cannot be reached.
    """
    bundle = Bundle.load(folder)
    commit = _commit(bundle, root)
    ready = signer.prepare()
    statement = provenance.statement(bundle, commit, _remote(root), builder)
    out = signature.folder_of(folder)
    with stage_output(
        out, stage="sign", parameters={}, inputs={"bundle": folder}, libraries=("model-signing",)
    ) as work:
        identity = signer.write(ready, folder, statement, work)
    return Signed(out, identity)


def _commit(bundle: Bundle, root: Path) -> str:
    """Return the checkout's commit after checking that it is what built the bundle, as far as that can be told."""
    changed = _git(root, "status", "--porcelain", "--", *CODE)
    if changed:
        raise InputError(
            f"{root}: differs from its last commit, which the provenance would name:\n{changed}\n"
            "Commit, build, then sign."
        )
    record = BundleRecord.load(bundle.folder / BundleRecord.FILE)
    lock = manifest.sha256(root / "requirements.lock")
    if lock != record.sources.requirements_lock:
        raise InputError(f"{bundle.folder}: was built with another requirements.lock than {root}'s. Build it again.")
    with zipfile.ZipFile(bundle.folder / record.runtime) as wheel:
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
