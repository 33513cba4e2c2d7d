"""Which module of the repository imports which, read from the sources; a name imported from a package's roof counts as
an import of the module that defines it."""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Where packages are found, in order.
ROOTS = (ROOT, ROOT / "stages" / "runtime")


@cache
def locate(name: str) -> Path | None:
    """Return the file of a module by its absolute name; None for what is not this repository's."""
    for root in ROOTS:
        place = root.joinpath(*name.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def name_of(path: Path) -> str:
    """Return the absolute name of a module's file."""
    root = max((root for root in ROOTS if path.is_relative_to(root)), key=lambda root: len(root.parts))
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = name_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


@cache
def imported_names(path: Path) -> tuple[tuple[str, str], ...]:
    """Return (module, name) of everything that a module imports, at its top or inside functions; name may be ""."""
    pairs: list[tuple[str, str]] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            pairs += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            pairs += [(_absolute(path, node), alias.name) for alias in node.names]
    return tuple(pairs)


def resolve(module: str, name: str) -> Path | None:
    """Return the file that defines what `from module import name` brings; None for what is not this repository's."""
    if name and (path := locate(f"{module}.{name}")):
        return path
    path = locate(module)
    if path and path.name == "__init__.py":
        for source, imported in imported_names(path):
            if imported == name and (source, imported) != (module, name):
                return resolve(source, name)
    return path


@cache
def imports(path: Path) -> frozenset[Path]:
    """Return the repository's files that a module imports directly, whatever roof it names them by."""
    found = {resolve(module, name) for module, name in imported_names(path)}
    return frozenset(item for item in found if item and item != path)


def reach(start: list[Path], stop: Callable[[Path], bool]) -> set[Path]:
    """Return all files that a set of modules needs, themselves included; what `stop` accepts is left out."""
    known, waiting = set(start), list(start)
    while waiting:
        for path in {path for path in imports(waiting.pop()) if not stop(path)} - known:
            known.add(path)
            waiting.append(path)
    return known


def circles(paths: list[Path]) -> Iterator[list[str]]:
    """Yield each circle of imports among modules, as their names (Tarjan's strongly connected components)."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []

    def visit(path: Path) -> Iterator[list[str]]:
        index[path] = low[path] = len(index)
        stack.append(path)
        for other in sorted(imports(path)):
            if other not in index:
                yield from visit(other)
                low[path] = min(low[path], low[other])
            elif other in stack:
                low[path] = min(low[path], index[other])
        if low[path] == index[path]:
            component = []
            while path not in component:
                component.append(stack.pop())
            if len(component) > 1:
                yield sorted(map(name_of, component))

    for path in paths:
        if path not in index:
            yield from visit(path)
