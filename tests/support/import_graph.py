"""Reads from the sources which module of the repository imports which.

A name imported from a package counts as an import of the module that defines it.
"""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Where packages are found, in order.
ROOTS = (ROOT, ROOT / "stages" / "runtime")


@cache
def locate(name: str) -> Path | None:
    """Return the file of a module by its absolute name; None for a module outside this repository."""
    for root in ROOTS:
        base = root.joinpath(*name.split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def module_name(path: Path) -> str:
    """Return the absolute name of a module's file."""
    root = max((root for root in ROOTS if path.is_relative_to(root)), key=lambda root: len(root.parts))
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _resolve_relative(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


@cache
def imported_names(path: Path) -> tuple[tuple[str, str], ...]:
    """Return (module, name) of every import of a module, at its top or inside functions; name may be ""."""
    pairs: list[tuple[str, str]] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    type_checking = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in type_checking:
            continue
        if isinstance(node, ast.Import):
            pairs += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            pairs += [(_resolve_relative(path, node), alias.name) for alias in node.names]
    return tuple(pairs)


def resolve(module: str, name: str) -> Path | None:
    """Return the file that defines what `from module import name` imports; None outside this repository."""
    if name and (path := locate(f"{module}.{name}")):
        return path
    path = locate(module)
    if path and path.name == "__init__.py":
        for source, imported in imported_names(path):
            if imported == name and (source, imported) != (module, name):
                return resolve(source, name)
    return path


@cache
def list_imports(path: Path) -> frozenset[Path]:
    """Return the repository's files that a module imports directly, also where it names a package."""
    files = {resolve(module, name) for module, name in imported_names(path)}
    return frozenset(file for file in files if file and file != path)


def find_dependencies(start: list[Path], stop: Callable[[Path], bool]) -> set[Path]:
    """Return all files that modules depend on, themselves included; files that `stop` accepts are left out."""
    files, waiting = set(start), list(start)
    while waiting:
        for path in {path for path in list_imports(waiting.pop()) if not stop(path)} - files:
            files.add(path)
            waiting.append(path)
    return files


def find_circles(paths: list[Path]) -> Iterator[list[str]]:
    """Yield each circle of imports, as module names (Tarjan's strongly connected components)."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []

    def visit(path: Path) -> Iterator[list[str]]:
        index[path] = low[path] = len(index)
        stack.append(path)
        for other in sorted(list_imports(path)):
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
                yield sorted(map(module_name, component))

    for path in paths:
        if path not in index:
            yield from visit(path)
