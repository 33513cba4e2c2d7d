"""`embed-foundry compare`, `map`, `audit`: what an upgrade means for an index, and what made it."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EXIT_CODES, GateError, InputError
from ..signer_options import add_signer, signer_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from .linear_map import LinearMap
    from .texts import RetrievalTexts

# A package offers texts to fit a map to by a function `load(count) -> list[str]` under this entry point.
FITTING_TEXTS = "embed_foundry.fitting_texts"
FITTING_COUNT = 4000
# Where a build keeps its tasks.
DATA = Path("data")
# Share of its own nDCG@10 that an index must keep: the build's gate.mixed_index_min.
KEPT_MIN = 0.95
# Share of an index that an audit looks at.
FRACTION = 0.001


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to the console script."""

    def add(name: str, summary: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=summary, epilog=EXIT_CODES)
        parser.set_defaults(run=run)
        return parser

    _add_compare(add("compare", "say whether a new release may search the index of an old one", _compare))
    parser = add("map", "write an index anew in a newer release's space, by a map that compare wrote", _map)
    parser.add_argument("index", type=Path, help="vectors of the old release: .npy, or .parquet with a column vector")
    parser.add_argument("--map", type=Path, required=True, help="the folder that compare --write-map wrote")
    parser.add_argument("--out", type=Path, required=True, help="the new index; it appears once it is whole")
    add_signer(parser, "the map must be signed by this signer")
    parser = add("audit", "embed a random sample of an index again, and bound how much of it other bytes made", _audit)
    parser.add_argument("index", type=Path, help="vectors: .npy, or .parquet with columns vector and text")
    parser.add_argument("bundle", type=Path, help="the release that should have made it")
    parser.add_argument("--texts", type=Path, help="the documents of an .npy: one a line, or .jsonl with a key text")
    parser.add_argument("--variant", help="default: the bundle's own choice")
    parser.add_argument(
        "--fraction", type=float, default=FRACTION, help="of the index; at least 300; default %(default)g"
    )
    parser.add_argument("--limit", type=float, default=0.0, metavar="SHARE", help="foreign share to accept; default 0")
    parser.add_argument("--seed", type=int, help="of the sample; default: another one each time")
    add_signer(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    from ..store.commands import add_store

    for side in ("old", "new"):
        parser.add_argument(side, help="folder, tar, digest or channel of a store, or git revision of this clone")
    for side in ("old", "new"):
        parser.add_argument(f"--{side}-variant", metavar="NAME", help="default: the one that this host opens")
        parser.add_argument(f"--{side}-dimensions", type=int, metavar="N", help="truncate its vectors (Matryoshka)")
    texts = parser.add_argument_group("texts")
    texts.add_argument(
        "--task",
        type=Path,
        action="append",
        metavar="FOLDER",
        help=("retrieval task: corpus.jsonl, queries.jsonl, qrels.tsv; repeat for more; default: those in data/"),
    )
    texts.add_argument("--queries", type=Path, help="your own queries, without labels: one a line, or .jsonl")
    texts.add_argument("--documents", type=Path, help="the documents that they search")
    texts.add_argument("--fit", type=Path, help="texts to fit a map to, beside the documents")
    parser.add_argument(
        "--kept-min",
        type=float,
        default=KEPT_MIN,
        metavar="SHARE",
        help="of its own nDCG@10 that an index must keep; default %(default)g, the gate's",
    )
    parser.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    parser.add_argument("--write-map", type=Path, metavar="FOLDER", help="write the map from the old space to the new")
    parser.add_argument("--sign-key", type=Path, metavar="PRIVATE_KEY", help="sign that map with this key")
    add_store(parser)
    add_signer(parser, "both releases must be signed by this signer")


def _compare(args: argparse.Namespace) -> None:
    from ..signing.key_pair import load_private_key
    from . import describe
    from .comparison import Side, compare
    from .releases import open_release

    if not 0 < args.kept_min <= 1:
        raise InputError(f"--kept-min {args.kept_min:g} is out of range: above 0, at most 1.")
    if args.sign_key and not args.write_map:
        raise InputError("--sign-key signs the map that --write-map writes. Name its folder.")
    key = load_private_key(args.sign_key) if args.sign_key else None
    signer, tasks = signer_of(args), _load_tasks(args)
    with tempfile.TemporaryDirectory() as scratch:
        sides = []
        for side in ("old", "new"):
            name, variant, dimensions = (getattr(args, key) for key in (side, f"{side}_variant", f"{side}_dimensions"))
            place = Path(scratch, side)
            place.mkdir()
            sides.append(Side.choose(name, open_release(name, place, args, signer), variant, dimensions))
        old, new = sides
        comparison = compare(
            old,
            new,
            tasks,
            kept_min=args.kept_min,
            fitting=lambda: _load_fitting(args.fit),
            want_map=args.write_map is not None,
        )
        if args.format == "json":
            print(json.dumps(describe.to_json(comparison), indent=2, sort_keys=True))
        else:
            lines = describe.to_text if args.format == "text" else describe.to_markdown
            print("\n".join(lines(comparison)))
    if args.write_map:
        _write_map(comparison.map, args.write_map, key)


def _load_tasks(args: argparse.Namespace) -> "list[RetrievalTexts]":
    """Return the texts that the options name; those of a build's data/ if they name none."""
    from .texts import is_task, load_own, load_task

    if (args.queries is None) != (args.documents is None):
        raise InputError("--queries and --documents need each other: queries search documents.")
    own = [load_own(args.queries, args.documents)] if args.queries else []
    folders = args.task or (
        [] if own or not DATA.is_dir() else [path for path in sorted(DATA.iterdir()) if is_task(path)]
    )
    return own + [load_task(folder) for folder in folders]


def _load_fitting(path: Path | None) -> list[str]:
    """Return the texts to fit a map to: a file's, else what an installed package offers, else none."""
    from .texts import read_texts

    if path:
        return read_texts(path)
    for entry_point in entry_points(group=FITTING_TEXTS):
        try:
            load = entry_point.load()
        except ModuleNotFoundError:  # the build's package without the clone
            continue
        return list(load(FITTING_COUNT))
    return []


def _write_map(linear_map: "LinearMap | None", folder: Path, key: "EllipticCurvePrivateKey | None") -> None:
    from ..output.folder import replace_file
    from ..signing.key_pair import build_envelope
    from .linear_map import build_statement, signature_of

    if linear_map is None:
        raise InputError("the releases have identical bytes, so there is no map to write. Leave out --write-map.")
    digest = linear_map.write(folder)
    if key:
        replace_file(signature_of(folder), build_envelope(build_statement(folder), key))
    print(f"{folder}: map {digest}{', signed' if key else ''}", file=sys.stderr)


def _map(args: argparse.Namespace) -> None:
    """Write an index in another space."""
    from ..progress import bar
    from .index_file import IndexFile
    from .linear_map import LinearMap

    linear_map = LinearMap.read(args.map, signer_of(args))
    index = IndexFile.open(args.index)
    linear_map.require(index.dimensions, str(args.index))
    with (
        index.rewrite(args.out, linear_map.target.dimensions) as writer,
        bar(f"map: {args.index.name}", index.vectors) as progress,
    ):
        for start, vectors in index.iterate():
            writer.write(linear_map.apply(vectors, start))
            progress.update(len(vectors))
    target = linear_map.target
    print(
        f"{args.out}: {index.vectors} vectors in space {target.space_id} of {target.variant}, release {target.release}"
    )


def _audit(args: argparse.Namespace) -> None:
    """Print what a sample says; exit 4 if more of the index may be foreign than is accepted."""
    from ..bundle import Bundle
    from .audit import audit
    from .index_file import IndexFile
    from .texts import read_texts

    index = IndexFile.open(args.index)
    texts = read_texts(args.texts) if args.texts else index.read_texts()
    if texts is None:
        raise InputError(f"{args.index}: has no texts. Name them: --texts FILE, in the index's order.")
    bundle = Bundle.load(args.bundle, signer_of(args))
    result = audit(index, texts, bundle.open(args.variant), fraction=args.fraction, seed=args.seed)
    print(f"{args.index}: {result.vectors} vectors, {len(result.sampled)} embedded again by {bundle.name}")
    print(
        f"equal but for rounding: {result.exact}; another vector (cosine below {result.limit:g}): {len(result.foreign)}"
    )
    print(f"made by other bytes, of the whole index: {100 * result.low:.2f} to {100 * result.high:.2f} % (95 % bounds)")
    if len(result.foreign) > args.limit * len(result.sampled):
        named = ", ".join(str(row) for row in result.foreign[:10])
        raise GateError(
            f"{args.index}: {len(result.foreign)} of {len(result.sampled)} are not the release's: rows {named}."
        )
