"""The API documentation that botocore carries (Apache-2.0), operation by operation."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
# Shorter queries name nothing; shorter documents say nothing that the query does not.
QUERY_MIN, DOCUMENT_MIN = 30, 100
_BREAKS = {"p", "li", "ul", "note", "br", "dt", "dd", "title"}


@dataclass(frozen=True)
class Operation:
    """One documented operation: its service, name, first sentence and the rest."""

    service: str
    name: str
    summary: str
    details: str


def operations() -> list[Operation]:
    """Return all operations with a usable first sentence and a rest, unique in both, in the order of their names."""
    return list(_operations())


@cache
def _operations() -> tuple[Operation, ...]:
    from botocore.loaders import Loader

    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    kept: dict[tuple[str, str], Operation] = {}
    seen: dict[str, int] = defaultdict(int)
    for service in sorted(loader.list_available_services("service-2")):
        for name, body in sorted(loader.load_service_model(service, "service-2")["operations"].items()):
            summary, *rest = SENTENCE_END.split(_plain(body.get("documentation", "")), maxsplit=1)
            details = rest[0] if rest else ""
            if len(summary) >= QUERY_MIN and len(details) >= DOCUMENT_MIN:
                kept[service, name] = Operation(service, name, summary, details)
                seen[summary] += 1
                seen[details] += 1
    return tuple(op for op in kept.values() if seen[op.summary] == seen[op.details] == 1)


def parameters() -> list[str]:
    """Return what is said of parameters and their types, each text once, in the order of services and names."""
    from botocore.loaders import Loader

    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    found: dict[str, None] = {}
    for service in sorted(loader.list_available_services("service-2")):
        for _, shape in sorted(loader.load_service_model(service, "service-2")["shapes"].items()):
            for part in (shape, *shape.get("members", {}).values()):
                if part.get("documentation"):
                    found[_plain(part["documentation"])] = None
    return list(found)


class _Text(HTMLParser):
    """Collects the text of a piece of HTML, blocks apart."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep blocks apart."""
        if tag in _BREAKS:
            self.parts.append(" ")


def _plain(html: str) -> str:
    parser = _Text()
    parser.feed(html)
    parser.close()
    return " ".join("".join(parser.parts).split())
