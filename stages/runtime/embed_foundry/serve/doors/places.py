"""Which dialect answers where no route does: unknown paths, wrong methods, faults before a door is reached."""

from typing import Final

from . import akidb, cohere, ollama, openai, tei
from .dialect import Dialect

# The longest prefix decides; a path of no other dialect gets TEI's, whose paths are at the root.
PREFIXES: Final[dict[str, Dialect]] = {
    "/api/v1/": akidb.DIALECT,
    "/api/": ollama.DIALECT,
    "/v1/embed/": cohere.DIALECT,
    "/v1/": openai.DIALECT,
    "/v2/": cohere.DIALECT,
    "/": tei.DIALECT,
}
ROUTERS: Final = (openai.router, ollama.router, tei.router, cohere.router, akidb.router)


def find_dialect(path: str) -> Dialect:
    """Return the dialect of a path."""
    return next(dialect for prefix, dialect in PREFIXES.items() if f"{path}/".startswith(prefix))
