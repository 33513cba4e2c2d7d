"""The build's commands, added to the console script in a clone: compose, repair, search, sign, publish and promote."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import InputError
from embed_foundry.cli import add_signer, signer_of
from embed_foundry.errors import EXIT_CODES

if TYPE_CHECKING:
    from stages.commands.promote import Change


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add every build-side command to the console script's parser."""
    parser = commands.add_parser("compose", help="write params.yaml from conf/ and overrides")
    parser.add_argument("overrides", nargs="*", help="e.g. target=railway_cpu 'variant=[fp32,static]'")
    parser.add_argument("--check", action="store_true", help="only compare; exit 2 on drift")
    parser.set_defaults(run=_compose)
    parser = commands.add_parser(
        "repair", help="remove corrupt outputs and DVC cache objects, so that dvc repro rebuilds"
    )
    parser.set_defaults(run=_repair)
    parser = commands.add_parser(
        "search", help="convert and measure a list of recipes, and show which are worth having"
    )
    parser.add_argument("file", type=Path, help="YAML: lengths, rounds, recipes; see tests/benchmarks/recipes.yaml")
    parser.add_argument("--out", type=Path, default=Path(".cache/search"), help="results and kept conversions")
    parser.set_defaults(run=_search)
    parser = commands.add_parser("keygen", help="make a key pair for sign and verify")
    parser.add_argument("out", type=Path, help="the private key's file; the public one gets the suffix .pub")
    parser.set_defaults(run=_keygen)
    parser = commands.add_parser("sign", help="sign a bundle: every file, and where it comes from")
    parser.add_argument("bundle", type=Path)
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--key", type=Path, help="private key; embed-foundry keygen makes one")
    by.add_argument("--keyless", action="store_true", help="as whom an OIDC token names, CI's or your browser's")
    parser.add_argument("--trust", type=Path, help="ClientTrustConfig of your own Sigstore; default: the public one")
    parser.set_defaults(run=_sign)
    _add_store_commands(commands)


def _add_store_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    def add(name: str, words: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=words, epilog=EXIT_CODES)
        parser.add_argument(
            "--store", help="s3://BUCKET[/PREFIX] or file://FOLDER; default: $EMBED_FOUNDRY_STORE, ./store"
        )
        parser.add_argument("--endpoint", help="S3 server; default: $AWS_ENDPOINT_URL, boto3's configuration")
        parser.set_defaults(run=run)
        return parser

    def add_move(name: str, words: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        parser = add(name, words, run)
        parser.add_argument("channel", help="such as canary or stable")
        parser.add_argument("--reason", help="recorded in the channel's history")
        parser.add_argument("--dry-run", action="store_true", help="check everything, change nothing")
        return parser

    parser = add("publish", "upload a release that the gate passed; prints its digest", _publish)
    parser.add_argument("release", nargs="?", type=Path, default=Path("release"))
    parser.add_argument(
        "--build", type=Path, help="folder with gate/ and catalog/; default: the one that holds release"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, upload nothing")
    parser = add_move("promote", "point a channel at a published release", _promote)
    parser.add_argument(
        "release", help="digest, release folder (such as release/), or a channel to take the release of"
    )
    parser.add_argument("--expect", metavar="DIGEST", help="only if the channel is there now; none: if it is new")
    parser = add_move("rollback", "point a channel at the release before its current one", _rollback)
    parser.add_argument("--to", metavar="DIGEST", help="an earlier one that still stands")
    parser = add("history", "show a channel's moves, or all channels", _history)
    parser.add_argument("channel", nargs="?")
    parser = add("fetch", "download a release and verify it before its folder appears", _fetch)
    parser.add_argument("release", help="digest or channel")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="only look up what would come")
    add_signer(parser)


def _compose(args: argparse.Namespace) -> None:
    from stages.commands import compose

    print(compose.write(args.overrides, args.check))


def _repair(_args: argparse.Namespace) -> None:
    from stages.commands import repair

    removed = repair.run()
    for path in removed:
        print(f"removed {path}")
    print(f"{len(removed)} corrupt; next: dvc repro" if removed else "nothing corrupt")


def _search(args: argparse.Namespace) -> None:
    from stages.commands import search
    from stages.common import config

    params = config.load()
    print(search.run(args.file, params, Path(params.finetune.weights), Path("data"), args.out))
    print(f"kept in {args.out}: table.md, pareto.png, results.json, variants/")


def _keygen(args: argparse.Namespace) -> None:
    from stages.commands import sign

    private, public = sign.keygen(args.out)
    print(f"{private}: keep it secret\n{public}: give it to whoever verifies")


def _sign(args: argparse.Namespace) -> None:
    from stages.commands import sign

    workflow = os.environ.get("GITHUB_WORKFLOW_REF")
    builder = f"{os.environ['GITHUB_SERVER_URL']}/{workflow}" if workflow else "urn:embed-foundry:builder:local"
    if args.key and args.trust:
        raise InputError("--trust names a Sigstore instance, which signing with --key does not use. Leave one out.")
    signed = sign.run(args.bundle, sign.Pair(args.key) if args.key else sign.Keyless(args.trust), Path(), builder)
    print(f"{signed.folder}: signed {args.bundle}" + (f" as {signed.identity}" if signed.identity else ""))


def _publish(args: argparse.Namespace) -> None:
    from stages.commands import promote

    store = promote.open_store(args.store, args.endpoint)
    done = promote.publish(store, args.release, args.build or args.release.resolve().parent, dry_run=args.dry_run)
    if args.dry_run:
        for name in done.new:
            _say(f"would upload {name}")
    verb = "would upload" if args.dry_run else "uploaded"
    signed = "signed" if done.signed else "unsigned"
    _say(f"{store.where}: {verb} {len(done.new)} of {done.objects} objects, {done.new_bytes / 1e6:.1f} MB, {signed}")
    print(done.digest)


def _promote(args: argparse.Namespace) -> None:
    from stages.commands import promote

    store = promote.open_store(args.store, args.endpoint)
    options = {"expect": args.expect, "reason": args.reason, "dry_run": args.dry_run}
    _tell(args, promote.promote(store, args.channel, args.release, **options))


def _rollback(args: argparse.Namespace) -> None:
    from stages.commands import promote

    store = promote.open_store(args.store, args.endpoint)
    _tell(args, promote.rollback(store, args.channel, to=args.to, reason=args.reason, dry_run=args.dry_run))


def _history(args: argparse.Namespace) -> None:
    from stages.commands import promote

    store = promote.open_store(args.store, args.endpoint)
    if args.channel is None:
        for name in promote.names(store):
            print(f"{name:<20} {promote.history(store, name).release}")
        return
    channel = promote.history(store, args.channel)
    for move in reversed(channel.moves):
        now = "*" if move is channel.moves[-1] else " "
        print(f"{now} {move.number:>3}  {move.at}  {move.action:<8}  {move.release}  {move.reason or ''}".rstrip())


def _fetch(args: argparse.Namespace) -> None:
    from stages.commands import promote

    store = promote.open_store(args.store, args.endpoint)
    body = promote.fetch(store, args.release, args.folder, signer=signer_of(args), dry_run=args.dry_run)
    size = body.size / 1e6
    done = "would hold" if args.dry_run else "verified, holds"
    print(f"{args.folder}: {done} release {body.digest}, {len(body.files)} files, {size:.1f} MB")


def _tell(args: argparse.Namespace, change: "Change") -> None:
    before = change.before.release if change.before else "none"
    if change.before is change.after:
        print(f"{args.channel}: is at {before} already")
        return
    print(f"{args.channel}: {'would move' if args.dry_run else 'moved'} from {before} to {change.after.release}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
