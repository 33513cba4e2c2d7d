"""`embed-foundry serve`."""

import argparse
import os
from pathlib import Path

from ..errors import EXIT_CODES, InputError
from ..signer_options import add_signer, signer_of
from .options import add_options, read_settings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `serve` to the console script."""
    parser = commands.add_parser("serve", help="answer embedding requests over HTTP", epilog=EXIT_CODES)
    parser.set_defaults(run=serve)
    parser.add_argument(
        "source", nargs="?", type=Path, help="a release folder, or a tar that pack wrote; or give --channel"
    )
    add_options(parser)
    add_signer(parser)


def serve(args: argparse.Namespace) -> None:
    """Serve until told to stop."""
    try:
        from . import server
        from .source import Source
    except ImportError as error:
        raise InputError(f"serve needs a library ({error}). Next: pip install 'embed-foundry[serve]'") from None

    server.run(Source(args.source, signer_of(args)), read_settings(args, os.environ))
