"""`embed-foundry promote`, `rollback`, `history`, `fetch`: what a host, or whoever operates it, does with a store."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EXIT_CODES
from ..signer_options import add_signer, signer_of

if TYPE_CHECKING:
    from .channels import ChannelUpdate
    from .store import Store

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

Run = Callable[[argparse.Namespace], int | None]


def add_commands(commands: "Subparsers") -> None:
    """Add the commands to the console script."""
    parser = _add_move_command(commands, "promote", _promote, "point a channel at a published release")
    parser.add_argument("release", help="digest, release folder (such as release/), or channel (its current release)")
    parser.add_argument("--expect", metavar="DIGEST", help="move only if the channel is at DIGEST (none: is new)")
    spaces = parser.add_mutually_exclusive_group()
    spaces.add_argument("--new-space", action="store_true", help="the release may have another vector space")
    spaces.add_argument("--map", type=Path, metavar="FOLDER", help="or: this map takes the channel's index to it")
    parser = _add_move_command(commands, "rollback", _rollback, "point a channel at the release before its current one")
    parser.add_argument("--to", metavar="DIGEST", help="one of the channel's earlier releases")
    parser = add_store_command(commands, "history", _history, "show a channel's moves, or every channel's release")
    parser.add_argument("channel", nargs="?")
    parser = add_store_command(commands, "fetch", _fetch, "download a release; its folder appears once it is verified")
    parser.add_argument("release", help="digest or channel")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="only look up what would be downloaded")
    add_signer(parser)


def add_store_command(commands: "Subparsers", name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    """Return a new command's parser, with the options that name a store."""
    parser = commands.add_parser(name, help=summary, epilog=EXIT_CODES)
    parser.set_defaults(run=run)
    add_store(parser)
    return parser


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a store."""
    parser.add_argument(
        "--store", help="such as s3://BUCKET/PREFIX or file://FOLDER; default: $EMBED_FOUNDRY_STORE, ./store"
    )
    parser.add_argument("--endpoint", help="S3 server; default: $AWS_ENDPOINT_URL, boto3's configuration")


def open_named_store(args: argparse.Namespace) -> "Store":
    """Return the store that the options of `add_store` name; see `open_store` for errors."""
    from .addresses import open_store

    return open_store(args.store, args.endpoint)


def _add_move_command(commands: "Subparsers", name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    parser = add_store_command(commands, name, run, summary)
    parser.add_argument("channel", help="such as canary or stable")
    parser.add_argument("--reason", help="recorded in the channel's history")
    parser.add_argument("--dry-run", action="store_true", help="check everything, change nothing")
    return parser


def _print_update(args: argparse.Namespace, update: "ChannelUpdate") -> None:
    before = update.before.release if update.before else "none"
    if update.before is update.after:
        print(f"{args.channel}: is already at {before}")
        return
    print(f"{args.channel}: {'would move' if args.dry_run else 'moved'} from {before} to {update.after.release}")


def _promote(args: argparse.Namespace) -> None:
    from ..spaces.linear_map import LinearMap
    from .channels import promote

    update = promote(
        open_named_store(args),
        args.channel,
        args.release,
        expect=args.expect,
        reason=args.reason,
        new_space=args.new_space,
        index_map=LinearMap.read(args.map) if args.map else None,
        dry_run=args.dry_run,
    )
    _print_update(args, update)


def _rollback(args: argparse.Namespace) -> None:
    from .channels import rollback

    options = {"to": args.to, "reason": args.reason, "dry_run": args.dry_run}
    _print_update(args, rollback(open_named_store(args), args.channel, **options))


def _history(args: argparse.Namespace) -> None:
    from .channels import list_channels, load_channel

    store = open_named_store(args)
    if args.channel is None:
        names = list_channels(store)
        if not names:
            print(f"{store.address}: no channels yet", file=sys.stderr)
        for name in names:
            print(f"{name:<20} {load_channel(store, name).release}")
        return
    channel = load_channel(store, args.channel)
    for move in reversed(channel.moves):
        mark = "*" if move is channel.moves[-1] else " "
        print(f"{mark} {move.number:>3}  {move.at}  {move.action:<8}  {move.release}  {move.reason or ''}".rstrip())


def _fetch(args: argparse.Namespace) -> None:
    from .fetch import fetch

    signer = signer_of(args)
    body = fetch(open_named_store(args), args.release, args.folder, signer=signer, dry_run=args.dry_run)
    verb, size_mb = "would hold" if args.dry_run else "verified, holds", body.size / 1e6
    print(f"{args.folder}: {verb} release {body.digest}, {len(body.files)} files, {size_mb:.1f} MB")
