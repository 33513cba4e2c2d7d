"""A release bundle: verify it, choose a variant, prove that it still encodes as it did at release, encode."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from . import contract, manifest, selection, selftest, signature
from .contract import Contract
from .encoders.encoder import Encoder, open_variant
from .encoders.vectors import Vectors
from .environment import Environment
from .errors import FoundryError, InputError, IntegrityError, one_line
from .manifest import JsonObject
from .replaced import read_whole
from .selftest import SelfTest
from .signer import Signer, make_signer

PROBES = "probes/probes.json"
GOLDEN = "probes/golden.safetensors"


class FallbackWarning(UserWarning):
    """A variant cannot run here or failed its self-test, and the next one of the same space was opened."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle folder.

    Attributes:
        folder: where it is.
        contract: what bundle.json says, as far as a runtime needs it.
        digest: the bundle's identity, the digest of its manifest and so of every file.
        provenance: the signed in-toto statement, if the signature was checked.
    """

    folder: Path
    contract: Contract
    digest: str
    provenance: JsonObject | None = None

    @classmethod
    def load(cls, folder: Path, signer: Signer | None = None) -> "Bundle":
        """Verify a bundle before anything of it is used: every file, its signature, and that its parts fit together.

        Args:
            folder: the bundle.
            signer: who must have signed the bundle, a `Key` or an `Identity`; None checks no signature.

        Raises:
            InputError: the folder does not exist, is one above, or has a path that is not UTF-8; or the signer's key or
                trust cannot be used.
            IntegrityError: a file is missing, added or changed; the bundle is unsigned or signed by somebody else; its
                parts are about different releases; it needs another runtime version.
            RetryableError: another process keeps changing the folder.
        """
        if folder.is_file():
            raise InputError(f"{folder}: is a file. Unpack it first: embed-foundry unpack {folder}")
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected a release bundle. Build one with `make`.")
        if any("\udc80" <= letter <= "\udcff" for letter in str(folder)):  # how Python holds bytes of no encoding
            raise InputError(f"{folder}: is not UTF-8, and the libraries take no other path. Rename the folder.")
        if not (folder / manifest.NAME).exists() and (nested := _find_nested(folder)):
            raise InputError(f"{folder}: is no release, but holds {', '.join(map(str, nested))}. Open that folder.")
        return read_whole(folder, lambda: cls._load(folder, signer))

    @classmethod
    def _load(cls, folder: Path, signer: Signer | None) -> "Bundle":
        body = manifest.verify(folder)
        provenance = signature.verify(folder, signer, body=body) if signer else None
        terms = Contract.load(folder)
        contract.require_consistent(folder, terms, body.hashes)
        return cls(folder, terms, body.digest, provenance)

    @property
    def raw(self) -> JsonObject:
        """All of bundle.json, as bundle.schema.json describes it."""
        return manifest.read_object(self.folder / contract.NAME, contract.REFUSAL)

    @property
    def order(self) -> list[str]:
        """Names of the shipped variants in the order in which the target wants them tried."""
        return list(self.contract.order)

    @property
    def unchanged(self) -> bool:
        """Whether its variants can be opened again; one that is watched looks at its files."""
        return True

    @property
    def name(self) -> str:
        """A name for this very release: model, target and the digest's first 12 digits."""
        return f"{self.contract.model}-{self.contract.target}-{self.digest[:12]}"

    def open(
        self, variant: str | None = None, threads: int | None = None, environment: Environment | None = None
    ) -> Encoder:
        """Open one variant, self-tested on the bundle's probes.

        Args:
            variant: a shipped variant's name; None opens the first that passes its self-test, in the order of
                `selection.decide`, which `embed-foundry explain` prints. All are of one vector space; a FallbackWarning
                names those that were skipped.
            threads: CPU threads; None means all this process may use.
            environment: the host to choose for; None detects this one.

        Raises:
            InputError: the variant is not in the bundle, or no variant of the first choice's space can run here.
            IntegrityError: no eligible variant passes its self-test.
        """
        if variant is not None and variant not in self.order:
            raise InputError(f"variant {variant!r} is not in {self.folder}; it ships {self.order}.")
        decision = selection.decide(self.contract, environment or Environment.detect())
        names = [variant] if variant else decision.order
        if not names:
            raise InputError(
                f"{self.folder}: no variant of space {decision.space_id} can run here. "
                f"{'; '.join(decision.list_skipped())}. "
                f"`embed-foundry explain {self.folder}` shows the others, which are opened by name only."
            )
        failures: list[str] = []
        for name in names:
            try:
                encoder, _ = self.open_tested(name, threads)
            except FoundryError as error:
                failures.append(f"{name}: {one_line(error)}")
                continue
            if skipped := ([] if variant else decision.list_skipped(name)) + failures:
                warnings.warn(f"using {name}; " + "; ".join(skipped), FallbackWarning, stacklevel=2)
            return encoder
        raise IntegrityError(f"{self.folder}: no variant passes its self-test. " + "; ".join(failures))

    def open_tested(self, name: str, threads: int | None = None, calls: int = 1) -> tuple[Encoder, SelfTest]:
        """Return one shipped variant's encoder, and the self-test that it passed.

        Args:
            name: the variant's.
            threads: CPU threads of a call; None means all this process may use.
            calls: how many threads call the encoder at once.

        Raises:
            InputError, IntegrityError: see `open_variant` and `self_test`.
        """
        folder, providers = self.folder / "variants" / name, self.contract.providers
        encoder = open_variant(folder, threads, calls=calls, providers=providers)
        return encoder, self.self_test(encoder)

    @property
    def probes(self) -> Path:
        """The texts of the self-test."""
        return self.folder / PROBES

    def golden(self, name: str) -> Vectors:
        """Return a variant's vectors of the probes at release: float32 [n, dimensions].

        Raises:
            InputError: safetensors is not installed.
            IntegrityError: there are none, or they cannot be read.
        """
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load_file
        except ImportError as error:  # opening a variant by itself may need less than a bundle
            raise InputError(f"the self-test needs safetensors ({error}). Next: pip install safetensors") from None
        try:
            golden = load_file(self.folder / GOLDEN)
        except (OSError, SafetensorError) as error:
            raise IntegrityError(
                f"{self.folder / GOLDEN}: safetensors cannot load it ({one_line(error)}). {contract.REFUSAL}"
            ) from None
        if name not in golden:
            raise IntegrityError(f"{self.folder / GOLDEN}: has no vectors of {name}. {contract.REFUSAL}")
        vectors: Vectors = golden[name]
        return vectors

    def self_test(self, encoder: Encoder) -> SelfTest:
        """Encode the bundle's probes and compare them with the vectors recorded at release.

        Raises:
            InputError, IntegrityError: see `golden` and `selftest.run`.
        """
        return selftest.run(encoder, selftest.read_probes(self.probes), self.golden(encoder.variant.name))


def _find_nested(folder: Path) -> list[Path]:
    """Return the releases in a folder's folders, or in a repository of the hub's cache."""
    return sorted(path.parent for pattern in ("*", "snapshots/*") for path in folder.glob(f"{pattern}/{contract.NAME}"))


def open_bundle(
    path: str | Path,
    variant: str | None = None,
    threads: int | None = None,
    key: str | Path | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    trust: str | Path | None = None,
) -> Encoder:
    """Verify a bundle, choose a variant and return its encoder; see `Bundle.load` and `Bundle.open` for errors.

    Args:
        path: the bundle's folder.
        variant: see `Bundle.open`.
        threads: see `Bundle.open`.
        key: a public key (PEM) whose owner must have signed the bundle.
        identity: or the identity that must have signed it by Sigstore, see `Identity`; this needs `issuer` too.
        issuer: the OIDC issuer that vouches for the identity.
        trust: the ClientTrustConfig (JSON) of a Sigstore instance other than the public one.
    """
    signer = make_signer(Path(key) if key else None, identity, issuer, Path(trust) if trust else None)
    return read_whole(Path(path), lambda: Bundle.load(Path(path), signer).open(variant, threads))
