"""A release bundle: verify it, choose a variant, prove that it still encodes as it did when released, encode."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from . import manifest
from .encoder import Encoder, open_variant
from .errors import FoundryError, InputError, IntegrityError

NAME = "bundle.json"
SCHEMA = 1
PROBES = "probes/probes.json"
GOLDEN = "probes/golden.safetensors"
# Least cosine between a probe's vector here and at release. Kernels differ between CPUs: fp32 stays within 1e-6,
# 8-bit activations within about 1e-3; a wrong output, pooling or tokenizer is far below.
SELF_TEST_COSINE = 0.99


class FallbackWarning(UserWarning):
    """A variant failed its self-test at open and the next one of the same space was taken."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle folder.

    Attributes:
        folder: where it is.
        facts: bundle.json: model, target, variants in order of choice, limits judged, evidence.
        digest: the bundle's identity, the digest of its manifest and so of every file.
    """

    folder: Path
    facts: dict[str, Any]
    digest: str

    @classmethod
    def load(cls, folder: Path) -> "Bundle":
        """Verify every file of a bundle and read its facts; nothing is used before the check.

        Raises:
            InputError: the folder does not exist.
            IntegrityError: a file is missing, added or changed, or the bundle needs another runtime version.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected a release bundle. Build one with `make`.")
        digest = manifest.verify(folder)["digest"]
        try:
            facts = json.loads((folder / NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{folder / NAME}: not readable ({error}); this is no release bundle.") from None
        if facts.get("schema") != SCHEMA:
            raise IntegrityError(
                f"{folder / NAME}: has schema {facts.get('schema')}, this runtime reads {SCHEMA}. "
                "Install the wheel in the bundle's runtime/ folder."
            )
        return cls(folder, facts, digest)

    @property
    def order(self) -> list[str]:
        """Names of the shipped variants in the order in which the target wants them tried."""
        return list(self.facts["order"])

    def open(self, variant: str | None = None, threads: int | None = None) -> Encoder:
        """Open one variant, self-tested on the bundle's probes.

        Args:
            variant: a shipped variant's name; None takes the first of `order` that passes its self-test. A later
                one is taken only if it shares the first one's space, and is announced by a FallbackWarning.
            threads: CPU threads; None means all this process may use.

        Raises:
            InputError: the variant is not in the bundle.
            IntegrityError: no eligible variant passes its self-test.
        """
        if variant is not None and variant not in self.order:
            raise InputError(f"variant {variant!r} is not in {self.folder}; it ships {self.order}.")
        names = [variant] if variant else self.order
        space = self.facts["variants"][names[0]]["space_id"]
        failures: list[str] = []
        for name in names:
            if self.facts["variants"][name]["space_id"] != space:
                continue
            try:
                encoder = open_variant(self.folder / "variants" / name, threads)
                self.self_test(encoder)
            except FoundryError as error:
                failures.append(f"{name}: {error}")
                continue
            if failures:
                warnings.warn(f"using {name}; " + "; ".join(failures), FallbackWarning, stacklevel=2)
            return encoder
        raise IntegrityError(f"{self.folder}: no variant passes its self-test. " + "; ".join(failures))

    def self_test(self, encoder: Encoder) -> float:
        """Encode the bundle's probes and return the least cosine to the vectors recorded at release.

        Raises:
            IntegrityError: a probe's cosine is below SELF_TEST_COSINE or its vector has another length.
        """
        probes = json.loads((self.folder / PROBES).read_text(encoding="utf-8"))
        golden = load_file(self.folder / GOLDEN)[encoder.variant.name]
        found = np.concatenate([encoder.encode([item["text"]], prompt=item["prompt"]) for item in probes])
        if found.shape != golden.shape:
            raise IntegrityError(f"self-test: vectors of shape {found.shape}, recorded {golden.shape}")
        cosines = (found * golden).sum(axis=1)
        worst = int(np.argmin(cosines))
        if not cosines[worst] >= SELF_TEST_COSINE:
            raise IntegrityError(
                f"self-test: cosine {cosines[worst]:.4f} to the recorded vector for {probes[worst]['text'][:40]!r}, "
                f"expected at least {SELF_TEST_COSINE}"
            )
        return float(cosines[worst])


def open_bundle(path: str | Path, variant: str | None = None, threads: int | None = None) -> Encoder:
    """Verify a bundle, choose a variant and return its encoder; see `Bundle.load` and `Bundle.open` for errors."""
    return Bundle.load(Path(path)).open(variant, threads)
