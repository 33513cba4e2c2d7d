"""`embed-foundry serve`: its options."""

import argparse
from pathlib import Path

from ..errors import EXIT_CODES, InputError
from .settings import Settings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `serve` to the console script."""
    from .. import cli

    parser = commands.add_parser("serve", help="answer embedding requests over HTTP", epilog=EXIT_CODES)
    parser.set_defaults(run=serve)
    parser.add_argument("source", type=Path, nargs="?", help="a release folder, or a tar that pack wrote")
    parser.add_argument("--store", default="", help="follow a channel of this store instead, e.g. s3://bucket/prefix")
    parser.add_argument("--channel", default="stable", help="the channel to follow")
    parser.add_argument("--host", default=Settings.host)
    parser.add_argument("--port", type=int, default=Settings.port)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--processes", type=int, default=Settings.processes)
    parser.add_argument("--drain-s", type=float, default=Settings.drain_s)
    parser.add_argument("--poll-s", type=float, default=Settings.poll_s)
    parser.add_argument("--state", type=Path, default=Settings.state)
    cli.add_signer(parser)


def serve(args: argparse.Namespace) -> None:
    """Serve until told to stop."""
    try:
        from . import server
        from .source import Source
    except ImportError as error:
        raise InputError(
            f"serve needs a library that is missing ({error}). Next: pip install 'embed-foundry[serve]'"
        ) from None

    from .. import cli

    source = Source(args.source, args.store, args.channel, cli.signer_of(args))
    names = ("host", "port", "threads", "processes", "drain_s", "poll_s", "state")
    server.run(source, Settings(**{name: getattr(args, name) for name in names}))
