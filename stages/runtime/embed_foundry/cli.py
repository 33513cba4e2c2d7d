"""The console script. A bundle's wheel brings these commands; a clone adds the build's."""

import argparse
import importlib.metadata
import io
import json
import os
import sys
from pathlib import Path

from .errors import EXIT_CODES
from .exits import exit_code
from .signer import Signer, signer

# Packages that add commands name a function `add_commands(commands)` under this entry point; the build does.
ENTRY_POINTS = "embed_foundry.commands"


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit with its code; a user's mistake ends in one line, never a traceback."""
    parser = argparse.ArgumentParser("embed-foundry", epilog=EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_verify, add_explain, add_encode, add_pack, add_unpack):
        add(commands)
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            add_commands = entry_point.load()
        except ModuleNotFoundError as error:
            if error.name != entry_point.module.partition(".")[0]:
                raise
            continue  # the wheel alone: the build's commands are in a clone
        add_commands(commands)
    args = parser.parse_args(argv)
    try:
        code = exit_code(lambda: args.run(args))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has enough, as `head` has; what is buffered must not be tried again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141  # what shells report of a program that SIGPIPE ended
    sys.exit(code)


def add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `verify DIR`."""
    parser = commands.add_parser("verify", help="check every byte of a bundle and its self-test", epilog=EXIT_CODES)
    parser.add_argument("bundle", type=Path)
    add_signer(parser)
    parser.set_defaults(run=verify)


def add_explain(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `explain DIR`, for this host or another one."""
    parser = commands.add_parser("explain", help="which variant is taken, and why", epilog=EXIT_CODES)
    parser.add_argument("bundle", type=Path)
    other = parser.add_argument_group("another host", "what differs from this one")
    other.add_argument("--memory-mb", type=int, help="memory limit of the process, in MiB")
    other.add_argument("--arch", help="x86_64, aarch64")
    other.add_argument("--flags", type=_set, help="the CPU's instruction sets, e.g. avx2,avx512_vnni")
    other.add_argument("--libraries", type=_set, help="kinds whose library is installed, e.g. onnx,openvino,static")
    other.add_argument("--railway", metavar="NAME", help="as if RAILWAY_ENVIRONMENT were set to this")
    other.add_argument("--cuda", action=argparse.BooleanOptionalAction, help="whether a CUDA device may be used")
    parser.set_defaults(run=explain)


def add_encode(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `encode DIR`, texts on standard input."""
    parser = commands.add_parser("encode", help="encode lines of standard input to JSON lines", epilog=EXIT_CODES)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", help="default: the bundle's own choice")
    parser.add_argument("--prompt", help="name of a prompt, e.g. query")
    parser.add_argument("--dimensions", type=int, help="cut and renormalise (Matryoshka)")
    add_signer(parser)
    parser.set_defaults(run=encode)


def add_pack(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `pack DIR`."""
    parser = commands.add_parser("pack", help="write a bundle, and its signature, to one tar", epilog=EXIT_CODES)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, help="the tar; default: MODEL-TARGET-DIGEST.tar")
    parser.set_defaults(run=pack)


def add_unpack(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `unpack TAR`."""
    parser = commands.add_parser("unpack", help="open such a tar, verified before it appears", epilog=EXIT_CODES)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--into", type=Path, default=Path(), help="the folder to unpack into; default: this one")
    add_signer(parser)
    parser.set_defaults(run=unpack)


def _set(text: str) -> frozenset[str]:
    return frozenset(filter(None, text.split(",")))


def add_signer(parser: argparse.ArgumentParser) -> None:
    """Add who must have signed: --key, or --identity and --issuer."""
    group = parser.add_argument_group("who signed it", "refuse the bundle unless this one did")
    group.add_argument("--key", type=Path, help="the owner of this public key")
    group.add_argument("--identity", help="or, keyless: an e-mail address, a workflow's URL")
    group.add_argument("--issuer", help="and who vouches for it, such as https://token.actions.githubusercontent.com")
    group.add_argument("--trust", type=Path, help="ClientTrustConfig of your own Sigstore; default: the public one")


def signer_of(args: argparse.Namespace) -> Signer | None:
    """Return whom `add_signer`'s arguments name."""
    return signer(args.key, args.identity, args.issuer, args.trust)


def verify(args: argparse.Namespace) -> None:
    """Print one line a variant after the whole bundle was checked, and who signed it."""
    from .bundle import Bundle
    from .environment import Environment
    from .signature import told

    by = signer_of(args)
    bundle = Bundle.load(args.bundle, by)
    libraries = Environment.here().libraries
    for name in bundle.order:
        if bundle.contract.variants[name].kind in libraries:
            print(f"{name:<20} self-test cosine {bundle.self_test(bundle.open(name)):.6f}")
        else:
            print(f"{name:<20} not self-tested: the library for its kind is not installed")
    print(told(bundle.folder, bundle.provenance, by))
    print(f"{args.bundle}: verified, digest {bundle.digest}")


def explain(args: argparse.Namespace) -> None:
    """Print why each variant is taken or not, and what comes next if it fails."""
    from dataclasses import fields, replace

    from .bundle import Bundle
    from .environment import Environment
    from .explain import lines

    names = [item.name for item in fields(Environment)]
    other = {name: value for name in names if (value := getattr(args, name)) is not None}
    bundle = Bundle.load(args.bundle)
    for line in lines(bundle, replace(Environment.here(), **other)):
        print(line)


def pack(args: argparse.Namespace) -> None:
    """Print the tar's SHA-256 and path, as sha256sum does."""
    from . import archive, manifest
    from .bundle import Bundle

    path = archive.pack(Bundle.load(args.bundle), args.out)
    print(f"{manifest.sha256(path)}  {path}")


def unpack(args: argparse.Namespace) -> None:
    """Print the bundle's folder and digest, and who signed it."""
    from . import archive, signature

    by = signer_of(args)
    bundle = archive.unpack(args.archive, args.into, by)
    print(signature.told(bundle.folder, bundle.provenance, by))
    print(f"{bundle.folder}: verified, digest {bundle.digest}")


def encode(args: argparse.Namespace) -> None:
    """Write one JSON array a line of standard input."""
    from .bundle import open_bundle

    # UTF-8 whatever the locale says; invalid bytes become lone surrogates, which the encoder refuses by line.
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape")
    texts = [line.rstrip("\n") for line in lines]
    by = {"key": args.key, "identity": args.identity, "issuer": args.issuer, "trust": args.trust}
    encoder = open_bundle(args.bundle, args.variant, **by)
    for row in encoder.encode(texts, prompt=args.prompt, dimensions=args.dimensions):
        print(json.dumps([float(value) for value in row]))
