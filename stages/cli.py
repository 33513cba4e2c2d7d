"""The build's commands, added to the console script in a clone: compose, repair, search, keygen, sign."""

import argparse
import os
from pathlib import Path


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
    parser.add_argument("--key", type=Path, required=True, help="private key; embed-foundry keygen makes one")
    parser.set_defaults(run=_sign)


def _compose(args: argparse.Namespace) -> None:
    from stages import compose

    print(compose.write(args.overrides, args.check))


def _repair(_args: argparse.Namespace) -> None:
    from stages import repair

    removed = repair.run()
    for path in removed:
        print(f"removed {path}")
    print(f"{len(removed)} corrupt; next: dvc repro" if removed else "nothing corrupt")


def _search(args: argparse.Namespace) -> None:
    from stages import search
    from stages.common import config

    params = config.load()
    print(search.run(args.file, params, Path(params.finetune.weights), Path("data"), args.out))
    print(f"kept in {args.out}: table.md, pareto.png, results.json, variants/")


def _keygen(args: argparse.Namespace) -> None:
    from stages import sign

    private, public = sign.keygen(args.out)
    print(f"{private}: keep it secret\n{public}: give it to whoever verifies")


def _sign(args: argparse.Namespace) -> None:
    from stages import sign

    workflow = os.environ.get("GITHUB_WORKFLOW_REF")
    builder = f"{os.environ['GITHUB_SERVER_URL']}/{workflow}" if workflow else "urn:embed-foundry:builder:local"
    print(f"{sign.run(args.bundle, args.key, Path(), builder)}: signed {args.bundle}")
