"""The options that say who must have signed a release: --key, or --identity and --issuer."""

import argparse
from pathlib import Path

from .signer import Signer, make_signer


def add_signer(
    parser: argparse.ArgumentParser, purpose: str = "refuse the bundle unless this signer signed it"
) -> None:
    """Add the options that say who must have signed: --key, or --identity and --issuer."""
    group = parser.add_argument_group("signer", purpose)
    group.add_argument("--key", type=Path, help="the signer's public key (PEM)")
    group.add_argument("--identity", help="keyless: the signer's e-mail address or workflow URL")
    group.add_argument(
        "--issuer", help="keyless: the OIDC issuer of that identity, e.g. https://token.actions.githubusercontent.com"
    )
    group.add_argument("--trust", type=Path, help="ClientTrustConfig of a private Sigstore; default: the public one")


def signer_of(args: argparse.Namespace) -> Signer | None:
    """Return who must have signed, by the options of `add_signer`."""
    return make_signer(args.key, args.identity, args.issuer, args.trust)
