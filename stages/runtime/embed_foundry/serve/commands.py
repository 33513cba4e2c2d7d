"""`embed-foundry serve`."""

import argparse
import os
from pathlib import Path

from ..errors import EXIT_CODES, InputError
from ..signer import make_signer
from .options import add_options, read_settings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `serve` to the console script."""
    from ..cli import add_signer

    parser = commands.add_parser("serve", help="answer embedding requests over HTTP", epilog=EXIT_CODES)
    parser.set_defaults(run=serve)
    parser.add_argument("source", type=Path, help="a release folder, or a tar that pack wrote")
    add_options(parser)
    add_signer(parser)


def serve(args: argparse.Namespace) -> None:
    """Serve until told to stop."""
    try:
        from . import server
        from .source import Source
    except ImportError as error:
        raise InputError(f"serve needs a library ({error}). Next: pip install 'embed-foundry[serve]'") from None

    signer = make_signer(args.key, args.identity, args.issuer, args.trust)
    server.run(Source(args.source, signer), read_settings(args, os.environ))
