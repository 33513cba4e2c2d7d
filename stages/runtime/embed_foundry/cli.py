"""The console script. A bundle's wheel brings these commands; a clone adds the build's."""

import argparse
import importlib.metadata
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

from .certify.command import add_commands as add_certify
from .errors import EXIT_CODES
from .exits import exit_code
from .serve.commands import add_commands as add_serve
from .signer import Signer
from .signer_options import add_signer, signer_of
from .spaces.commands import add_commands as add_space_commands
from .store.commands import add_commands as add_store_commands

# A package adds commands by a function `add_commands(commands)` under this entry point; the build does.
ENTRY_POINTS = "embed_foundry.commands"


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit with its code; an expected error becomes one line, never a traceback."""
    parser = argparse.ArgumentParser("embed-foundry", epilog=EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_bundle_commands(commands)
    add_certify(commands)
    add_store_commands(commands)
    add_space_commands(commands)
    add_serve(commands)
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            add_commands = entry_point.load()
        except ModuleNotFoundError as error:
            if not f"{entry_point.module}.".startswith(f"{error.name}."):
                raise
            continue  # the wheel alone, or beside a foreign package `stages`: the build's commands are in a clone
        add_commands(commands)
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path's name may hold what the output's encoding cannot
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(exit_code(lambda: args.run(args)))


def add_bundle_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that read a bundle."""

    def add(name: str, summary: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=summary, epilog=EXIT_CODES)
        parser.set_defaults(run=run)
        return parser

    parser = add("verify", "check every byte of a bundle, and each variant's self-test", verify)
    parser.add_argument("bundle", type=Path)
    add_signer(parser)
    parser = add("explain", "show which variant is opened on this host, and why", explain)
    parser.add_argument("bundle", type=Path)
    add_environment(parser)
    add_signer(parser, "count only certificates that this signer signed")
    parser = add("encode", "encode the lines of standard input (UTF-8), one JSON array each", encode)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", help="default: the bundle's own choice")
    parser.add_argument("--prompt", help="name of a prompt, e.g. query")
    parser.add_argument("--dimensions", type=int, help="truncate vectors and renormalise them (Matryoshka)")
    add_signer(parser)
    parser = add("pack", "write a bundle, and its signature, to one tar", pack)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, help="the tar; default: MODEL-TARGET-DIGEST.tar")
    parser = add("unpack", "unpack a tar that pack wrote; the bundle is verified before it appears", unpack)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--into", type=Path, default=Path(), help="the folder to unpack into; default: this one")
    add_signer(parser)


def add_environment(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe another host, one for each attribute of Environment."""
    group = parser.add_argument_group("another host", "how it differs from this one")
    group.add_argument("--memory-mb", type=int, help="memory limit of the process, in MiB")
    group.add_argument("--arch", help="x86_64, aarch64")
    group.add_argument("--flags", type=_parse_set, help="the CPU's instruction sets, e.g. avx2,avx512_vnni")
    group.add_argument("--libraries", type=_parse_set, help="kinds whose library is installed, e.g. onnx,static")
    group.add_argument("--railway", metavar="NAME", help="as if RAILWAY_ENVIRONMENT were set to this")
    group.add_argument("--cuda", action=argparse.BooleanOptionalAction, help="whether a CUDA device may be used")


def verify(args: argparse.Namespace) -> None:
    """Check the whole bundle; print a line for each variant's self-test, and who signed it."""
    from .replaced import read_whole

    signer = signer_of(args)
    print("\n".join(read_whole(args.bundle, lambda: _verify(args.bundle, signer))))


def _verify(folder: Path, signer: Signer | None) -> list[str]:
    """Return the lines that `verify` prints of an intact bundle."""
    from . import signature
    from .bundle import Bundle
    from .environment import Environment

    bundle = Bundle.load(folder, signer)
    libraries = Environment.detect().libraries
    lines = []
    for name in bundle.order:
        if bundle.contract.variants[name].kind in libraries:
            lines.append(f"{name:<20} self-test cosine {bundle.self_test(bundle.open(name)).cosine:.6f}")
        else:
            lines.append(f"{name:<20} not self-tested: the library for its kind is not installed")
    lines.append(signature.describe(bundle.folder, bundle.provenance, signer))
    return [*lines, f"{folder}: verified, digest {bundle.digest}"]


def explain(args: argparse.Namespace) -> None:
    """Print why each variant is opened or not, and what comes next if it fails."""
    from dataclasses import fields, replace

    from .bundle import Bundle
    from .environment import Environment
    from .explain import explain_choice

    names = [attribute.name for attribute in fields(Environment)]
    changes = {name: value for name in names if (value := getattr(args, name)) is not None}
    bundle = Bundle.load(args.bundle)
    for line in explain_choice(bundle, replace(Environment.detect(), **changes), signer_of(args)):
        print(line)


def encode(args: argparse.Namespace) -> None:
    """Print the vector of each line of standard input as one JSON array."""
    from .bundle import open_bundle
    from .text_lines import read_lines

    texts = read_lines(sys.stdin)
    signer = {"key": args.key, "identity": args.identity, "issuer": args.issuer, "trust": args.trust}
    encoder = open_bundle(args.bundle, args.variant, **signer)
    for row in encoder.encode(texts, prompt=args.prompt, dimensions=args.dimensions):
        print(json.dumps([float(value) for value in row]))


def pack(args: argparse.Namespace) -> None:
    """Print the tar's SHA-256 and path, as sha256sum does."""
    from . import archive, manifest
    from .bundle import Bundle

    path = archive.pack(Bundle.load(args.bundle), args.out)
    print(f"{manifest.sha256(path)}  {path}")


def unpack(args: argparse.Namespace) -> None:
    """Print the bundle's folder and digest, and who signed it."""
    from . import archive, signature

    signer = signer_of(args)
    bundle = archive.unpack(args.archive, args.into, signer)
    print(signature.describe(bundle.folder, bundle.provenance, signer))
    print(f"{bundle.folder}: verified, digest {bundle.digest}")


def _parse_set(text: str) -> frozenset[str]:
    return frozenset(filter(None, text.split(",")))
