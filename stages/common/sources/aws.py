"""The API documentation that botocore carries (Apache-2.0), operation by operation."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
# In characters: shorter queries are too vague, shorter documents add nothing to their query.
QUERY_MIN, DOCUMENT_MIN = 30, 100
# HTML elements that start a new block of text.
_BLOCKS = {"p", "li", "ul", "note", "br", "dt", "dd", "title"}


@dataclass(frozen=True)
class Operation:
    """One documented operation.

    Attributes:
        service, name: botocore's names.
        summary: the first sentence of its documentation.
        details: the rest.
    """

    service: str
    name: str
    summary: str
    details: str


def load_operations() -> list[Operation]:
    """Return all operations that are long enough and whose two parts occur once, in the order of their names."""
    return list(_load_operations())


@cache
def _load_operations() -> tuple[Operation, ...]:
    from botocore.loaders import Loader

    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    operations: list[Operation] = []
    occurrences: dict[str, int] = defaultdict(int)
    for service in sorted(loader.list_available_services("service-2")):
        for name, body in sorted(loader.load_service_model(service, "service-2")["operations"].items()):
            summary, *rest = SENTENCE_END.split(_strip_markup(body.get("documentation", "")), maxsplit=1)
            details = rest[0] if rest else ""
            if len(summary) >= QUERY_MIN and len(details) >= DOCUMENT_MIN:
                operations.append(Operation(service, name, summary, details))
                occurrences[summary] += 1
                occurrences[details] += 1
    return tuple(
        operation for operation in operations if occurrences[operation.summary] == occurrences[operation.details] == 1
    )


def load_parameter_texts() -> list[str]:
    """Return the documentation of parameters and their types, each text once, in the order of services and names."""
    from botocore.loaders import Loader

    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    texts: dict[str, None] = {}
    for service in sorted(loader.list_available_services("service-2")):
        for _, shape in sorted(loader.load_service_model(service, "service-2")["shapes"].items()):
            for part in (shape, *shape.get("members", {}).values()):
                if part.get("documentation"):
                    texts[_strip_markup(part["documentation"])] = None
    return list(texts)


class _TextCollector(HTMLParser):
    """Collects the text of a piece of HTML, with spaces between blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Separate blocks."""
        if tag in _BLOCKS:
            self.parts.append(" ")


def _strip_markup(html: str) -> str:
    parser = _TextCollector()
    parser.feed(html)
    parser.close()
    return " ".join("".join(parser.parts).split())
