"""The build's commands, which a clone adds to the console script."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from embed_foundry import InputError
from embed_foundry.errors import EXIT_CODES
from embed_foundry.store.commands import add_store_command, open_named_store

from stages.common.contract.dvc_cache import trust_links

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

Run = Callable[[argparse.Namespace], int | None]


def add_commands(commands: "Subparsers") -> None:
    """Add every build-side command to the console script's parser, whose checks accept links into DVC's cache then."""
    trust_links()
    parser = _add_command(commands, "build", _build, "dvc repro, alone in this clone; make runs it")
    parser.add_argument("arguments", nargs="*", help="of dvc repro: stages, and after -- its options")
    parser = _add_command(commands, "compose", _compose, "write params.yaml from conf/ and overrides")
    parser.add_argument("overrides", nargs="*", help="e.g. target=railway_cpu 'variant=[fp32,static]'")
    parser.add_argument("--check", action="store_true", help="only compare; exit 2 if params.yaml differs")
    parser = _add_command(commands, "add-model", _add_model, "write conf/model/NAME.yaml for a model")
    parser.add_argument("origin", metavar="REPO|FOLDER", help="on the hub, such as BAAI/bge-m3, or a folder")
    parser.add_argument("--revision", help="commit, branch or tag of the repository; default: main")
    parser.add_argument("--name", help="of the option; default: from the repository's or folder's name")
    _add_command(
        commands, "repair", _repair, "remove corrupt outputs and DVC cache objects, so that dvc repro rebuilds them"
    )
    parser = _add_command(
        commands, "search", _search, "convert and measure a list of recipes and show which are worth keeping"
    )
    parser.add_argument("file", type=Path, help="YAML: lengths, rounds, recipes; see tests/benchmarks/recipes.yaml")
    parser.add_argument("--out", type=Path, default=Path(".cache/search"), help="folder for results and conversions")
    parser = _add_command(commands, "keygen", _keygen, "make a key pair for sign and verify")
    parser.add_argument("out", type=Path, help="the private key's file; the public one gets the suffix .pub")
    parser = _add_command(commands, "sign", _sign, "sign a bundle: every file, and where it comes from")
    parser.add_argument("bundle", type=Path)
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument("--key", type=Path, help="private key; embed-foundry keygen makes one")
    key.add_argument("--keyless", action="store_true", help="sign with an OIDC token, from CI or your browser")
    parser.add_argument("--trust", type=Path, help="ClientTrustConfig of your own Sigstore; default: the public one")
    parser = add_store_command(
        commands, "publish", _publish, "upload a release that the gate passed, and print its digest"
    )
    parser.add_argument("release", nargs="?", type=Path, default=Path("release"))
    parser.add_argument("--build", type=Path, help="folder with gate/ and catalog/; default: the release's parent")
    parser.add_argument("--dry-run", action="store_true", help="check everything, upload nothing")


def _add_command(commands: "Subparsers", name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, epilog=EXIT_CODES)
    parser.set_defaults(run=run)
    return parser


def _build(args: argparse.Namespace) -> int:
    from stages.commands import build

    return build.run(args.arguments)


def _compose(args: argparse.Namespace) -> None:
    from stages.commands import compose

    print(compose.write(args.overrides, args.check))
    for note in compose.list_notes(overrides=args.overrides):
        print(f"note: {note}", file=sys.stderr)


def _add_model(args: argparse.Namespace) -> None:
    from stages.commands import add_model

    added = add_model.run(args.origin, args.revision, args.name)
    print("\n".join(added.lines))
    option = f"model={added.path.stem}"
    print(f"{added.path}: {'written' if added.written else 'up to date'}; next: embed-foundry compose {option}")
    if added.unused_prompts:
        names = ", ".join(added.unused_prompts)
        print(f"note: mteb asks for none of the prompts {names}; {added.path} shows them", file=sys.stderr)


def _repair(_args: argparse.Namespace) -> None:
    from stages.commands import repair

    removed = repair.run()
    for line in removed:
        print(f"removed {line}")
    print(f"{len(removed)} removed; next: dvc repro" if removed else "nothing corrupt")


def _search(args: argparse.Namespace) -> None:
    from stages.commands import search
    from stages.common import config

    params = config.load()
    print(search.run(args.file, params, Path(params.finetune.weights), Path("data"), args.out))
    print(f"kept in {args.out}: table.md, pareto.png, results.json, variants/")


def _keygen(args: argparse.Namespace) -> None:
    from stages.commands import sign

    private, public = sign.generate_key_pair(args.out)
    print(f"{private}: keep it secret\n{public}: give it to whoever verifies")


def _sign(args: argparse.Namespace) -> None:
    from stages.commands import sign

    if args.key and args.trust:
        raise InputError("--trust names a Sigstore instance, which signing with --key does not use. Leave one out.")
    signer = sign.KeyPairSigner(args.key) if args.key else sign.KeylessSigner(args.trust)
    workflow = os.environ.get("GITHUB_WORKFLOW_REF")
    builder = f"{os.environ['GITHUB_SERVER_URL']}/{workflow}" if workflow else "urn:embed-foundry:builder:local"
    result = sign.run(args.bundle, signer, Path(), builder)
    print(f"{result.folder}: signed {args.bundle}" + (f" as {result.identity}" if result.identity else ""))


def _publish(args: argparse.Namespace) -> None:
    from stages.commands.publish import publish

    store, build = open_named_store(args), args.build or args.release.resolve().parent
    result = publish(store, args.release, build, dry_run=args.dry_run)
    if args.dry_run:
        for name in result.new_files:
            print(f"would upload {name}", file=sys.stderr)
    verb, signed = "would upload" if args.dry_run else "uploaded", "signed" if result.signed else "unsigned"
    count, size_mb = f"{len(result.new_files)} of {result.object_count} objects", result.new_bytes / 1e6
    print(f"{store.address}: {verb} {count}, {size_mb:.1f} MB, {signed}", file=sys.stderr)
    print(result.digest)
