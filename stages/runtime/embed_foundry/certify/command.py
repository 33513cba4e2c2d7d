"""`embed-foundry certify`: measure a release on this host, and write what it did beside it."""

import argparse
import math
import sys
from pathlib import Path

from ..errors import EXIT_CODES, GateError, InputError

BUDGET_S = 120.0


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `certify`."""
    parser = commands.add_parser(
        "certify", help="measure a bundle on this host, and certify what it does here", epilog=EXIT_CODES
    )
    parser.set_defaults(run=run)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=BUDGET_S, help="for the timed rounds; default: %(default)g")
    parser.add_argument("--threads", type=int, help="CPU threads of a call; default: all that this process may use")
    parser.add_argument("--store", help="also publish the certificate: s3://BUCKET/PREFIX or file://FOLDER")
    parser.add_argument("--endpoint", help="S3 server; default: $AWS_ENDPOINT_URL, boto3's configuration")
    signing = parser.add_mutually_exclusive_group()
    signing.add_argument("--sign-key", type=Path, metavar="PRIVATE_KEY", help="sign with this key")
    signing.add_argument("--keyless", action="store_true", help="sign with an OIDC token, from CI or your browser")
    parser.add_argument("--trust", type=Path, help="with --keyless: the ClientTrustConfig of a Sigstore of your own")


def run(args: argparse.Namespace) -> None:
    """Measure, print, write; exit 4 if a variant does not pass, after its certificate was written."""
    from .. import manifest
    from ..bundle import Bundle
    from ..signing.key_pair import build_envelope, encode_statement, load_private_key
    from ..signing.keyless import log_in, require_token
    from ..store.addresses import open_store
    from ..store.certificate_files import upload_certificates
    from . import files
    from .description import describe
    from .measure import certify

    if sys.platform == "win32":
        raise InputError("certify measures by means of Linux and macOS. On Windows, run it in WSL.")
    if not 0 < args.seconds < math.inf or (args.threads is not None and args.threads < 1):
        raise InputError("--seconds and --threads are out of range: above 0, and at least 1.")
    if args.trust and not args.keyless:
        raise InputError("--trust names a Sigstore instance, which only --keyless uses. Leave it out.")
    bundle = Bundle.load(args.bundle)
    # Before minutes of work: what cannot be read or reached.
    key = load_private_key(args.sign_key) if args.sign_key else None
    if args.keyless:
        require_token()
    store = open_store(args.store, args.endpoint) if args.store else None
    certificate = certify(bundle, args.seconds, args.threads)
    for line in describe(certificate):
        print(line)
    statement = certificate.to_statement(manifest.sha256(bundle.folder / manifest.NAME))
    signed = ""
    if key:
        content = build_envelope(statement, key)
        signed = f", signed with {args.sign_key}"
    elif args.keyless:
        text, identity = log_in(args.trust).sign(statement)
        content, signed = text.encode(), f", signed as {identity}"
    else:
        content = encode_statement(statement)
    path = files.write(bundle.folder, certificate, content)
    print(f"{path}: certificate of {bundle.name}{signed}")
    if store:
        count = upload_certificates(store, bundle.digest, bundle.folder)
        print(f"{store.address}: {count} new certificate{'' if count == 1 else 's'}", file=sys.stderr)
    if not certificate.passes:
        names = [name for name, result in certificate.variants.items() if result.faults]
        raise GateError(f"{args.bundle}: {', '.join(names)} did not pass on this host; the certificate says why.")
