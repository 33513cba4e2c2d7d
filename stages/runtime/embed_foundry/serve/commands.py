"""`embed-foundry serve`: its options."""

import argparse
from pathlib import Path

from ..errors import EXIT_CODES, InputError
from .settings import Settings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `serve` to the console script."""
    parser = commands.add_parser("serve", help="answer embedding requests over HTTP", epilog=EXIT_CODES)
    parser.set_defaults(run=serve)
    parser.add_argument("source", type=Path, help="a release folder")
    parser.add_argument("--host", default=Settings.host)
    parser.add_argument("--port", type=int, default=Settings.port)
    parser.add_argument("--threads", type=int)


def serve(args: argparse.Namespace) -> None:
    """Serve until told to stop."""
    try:
        from . import server
    except ImportError as error:
        raise InputError(
            f"serve needs a library that is missing ({error}). Next: pip install 'embed-foundry[serve]'"
        ) from None

    server.run(args.source, Settings(host=args.host, port=args.port, threads=args.threads))
