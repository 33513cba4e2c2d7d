"""The console script. A bundle's wheel brings verify and encode; a clone adds the build's commands."""

import argparse
import importlib
import importlib.util
import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from .errors import FoundryError

EXIT_CODES = "exit codes: 0 ok, 2 config or input, 3 integrity, 4 gate, 5 remote refused, 75 busy or retryable"
# Present in a clone only: stages/cli.py adds these.
BUILD_COMMANDS = "stages.cli"


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit with its code; a user's mistake ends in one line, never a traceback."""
    parser = argparse.ArgumentParser("embed-foundry", epilog=EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_verify(commands)
    add_encode(commands)
    if importlib.util.find_spec(BUILD_COMMANDS.partition(".")[0]) and importlib.util.find_spec(BUILD_COMMANDS):
        importlib.import_module(BUILD_COMMANDS).add_commands(commands)
    args = parser.parse_args(argv)
    sys.exit(guarded(lambda: args.run(args)))


def guarded(run: Callable[[], int | None]) -> int:
    """Call `run` and return its exit code, with expected errors turned into one line on stderr."""
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        return run() or 0
    except FoundryError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted; nothing was published", file=sys.stderr)
        return 130


def add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `verify DIR`."""
    parser = commands.add_parser("verify", help="check every byte of a bundle and its self-test", epilog=EXIT_CODES)
    parser.add_argument("bundle", type=Path)
    parser.set_defaults(run=verify)


def add_encode(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `encode DIR`, texts on standard input."""
    parser = commands.add_parser("encode", help="encode lines of standard input to JSON lines", epilog=EXIT_CODES)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", help="default: the bundle's own choice")
    parser.add_argument("--prompt", help="name of a prompt, e.g. query")
    parser.add_argument("--dimensions", type=int, help="cut and renormalise (Matryoshka)")
    parser.set_defaults(run=encode)


def verify(args: argparse.Namespace) -> None:
    """Print one line a variant after the whole bundle was checked."""
    from .bundle import Bundle

    bundle = Bundle.load(args.bundle)
    for name in bundle.order:
        worst = bundle.self_test(bundle.open(name))
        print(f"{name:<20} self-test cosine {worst:.6f}")
    print(f"{args.bundle}: verified, digest {bundle.digest}")


def encode(args: argparse.Namespace) -> None:
    """Write one JSON array a line of standard input."""
    from .bundle import open_bundle

    # UTF-8 whatever the locale says; invalid bytes become lone surrogates, which the encoder refuses by line.
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape")
    texts = [line.rstrip("\n") for line in lines]
    encoder = open_bundle(args.bundle, args.variant)
    for row in encoder.encode(texts, prompt=args.prompt, dimensions=args.dimensions):
        print(json.dumps([float(value) for value in row]))
