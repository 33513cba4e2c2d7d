"""Signs one bundle: every file, and where it comes from."""

import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embed_foundry import Bundle, Identity, manifest, signature
from embed_foundry.errors import InputError

from stages.commands.sign.provenance import Statement, build_statement
from stages.common.contract.output import stage_output
from stages.common.records.bundle import BundleRecord

# What shapes a bundle. Results (dvc.lock, gate/) may differ from the commit, for they are committed afterwards.
BUILD_SOURCES = ("stages", "conf", "params.yaml", "dvc.yaml", "pyproject.toml", "requirements.lock", "LICENSE")

# Writes signature and provenance, given the bundle, the provenance's statement and the folder to write to. Returns who
# signed, for verifiers; None with a key pair.
WriteSignature = Callable[[Path, Statement, Path], Identity | None]


class BundleSigner(Protocol):
    """What `run` signs with."""

    def prepare(self) -> WriteSignature:
        """Get ready to sign; raises whatever can be known before any work."""


@dataclass(frozen=True)
class SigningResult:
    """What `run` did.

    Attributes:
        folder: holds signature and provenance.
        identity: who signed, for verifiers; None with a key pair.
    """

    folder: Path
    identity: Identity | None


def run(folder: Path, signer: BundleSigner, checkout: Path, builder: str) -> SigningResult:
    """Verify a bundle, then sign it.

    Args:
        folder: the bundle.
        signer: a `KeyPairSigner` or a `KeylessSigner`.
        checkout: the repository that built the bundle.
        builder: who runs the build, as a URI.

    Raises:
        InputError: the signer cannot sign, or the checkout is not the one that built the bundle.
        IntegrityError: the bundle does not verify, or what Sigstore issued does not.
        RemoteError: Sigstore refused.
        RetryableError: Sigstore cannot be reached.
    """
    bundle = Bundle.load(folder)
    commit = _require_built_by(bundle, checkout)
    write_signature = signer.prepare()
    statement = build_statement(bundle, commit, _read_public_remote(checkout), builder)
    out = signature.folder_of(folder)
    with stage_output(
        out, stage="sign", parameters={}, inputs={"bundle": folder}, libraries=("model-signing",)
    ) as work:
        identity = write_signature(folder, statement, work)
    return SigningResult(out, identity)


def _require_built_by(bundle: Bundle, checkout: Path) -> str:
    """Check as far as possible that a checkout built the bundle, and return its commit."""
    changes = _run_git(checkout, "status", "--porcelain", "--", *BUILD_SOURCES)
    if changes:
        raise InputError(
            f"{checkout}: differs from its last commit, which the provenance would name:\n{changes}\n"
            "Commit, build, then sign."
        )
    record = BundleRecord.load(bundle.folder / BundleRecord.FILE)
    if manifest.sha256(checkout / "requirements.lock") != record.sources.requirements_lock:
        raise InputError(
            f"{bundle.folder}: its requirements.lock differs from {checkout}'s. Build it again, then sign."
        )
    with zipfile.ZipFile(bundle.folder / record.runtime) as wheel:
        for name in wheel.namelist():
            source = checkout / "stages" / "runtime" / name
            if name.startswith("embed_foundry/") and (not source.is_file() or source.read_bytes() != wheel.read(name)):
                raise InputError(
                    f"{bundle.folder}: its runtime's {name} differs from {checkout}'s. Build it again, then sign."
                )
    return _run_git(checkout, "rev-parse", "HEAD")


def _read_public_remote(checkout: Path) -> str:
    """Return the address of the checkout's origin if it is public, without credentials; "" for a local path."""
    try:
        address = _run_git(checkout, "config", "--get", "remote.origin.url")
    except InputError:
        return ""
    scheme, separator, rest = address.partition("://")
    return f"git+https://{rest.rpartition('@')[2]}" if separator and scheme == "https" else ""


def _run_git(checkout: Path, *args: str) -> str:
    process = subprocess.run(["git", *args], cwd=checkout, capture_output=True, text=True, check=False)
    if process.returncode:
        raise InputError(
            f"{checkout}: git {args[0]} failed ({process.stderr.strip()}). Sign in the checkout that built the bundle."
        )
    return process.stdout.rstrip()
