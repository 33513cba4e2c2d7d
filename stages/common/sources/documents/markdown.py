"""Markdown as blocks: CommonMark with GitHub's tables, rendered to HTML and read as a browser would read it."""

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

import yaml

from stages.common.sources.documents import html
from stages.common.sources.documents.blocks import Block, put_title_above

# Front matter as Jekyll and Hugo define it: YAML or TOML between fences that open the file.
_FENCED = re.compile(r"(---|\+\+\+)[ \t]*\n(.*?)^(?:\1|\.\.\.)[ \t]*$\n?", re.DOTALL | re.MULTILINE)
_LOADERS: dict[str, Callable[[str], Any]] = {"---": yaml.safe_load, "+++": tomllib.loads}
# A line of broken front matter that is not prose.
_KEY = re.compile(r"\s*[\w-]+\s*[:=]")
# Levels of lists and quotes, two for each list; markdown-it leaves out what is deeper.
NESTING = 200


def read_blocks(content: str) -> list[Block]:
    """Return the blocks of a Markdown text below its title, if the front matter has one."""
    from markdown_it import MarkdownIt

    title, body = split_front_matter(content)
    lines_before = content[: len(content) - len(body)].count("\n")
    parser = MarkdownIt("commonmark", {"maxNesting": NESTING}).enable("table")
    tokens = parser.parse(body)
    for token in tokens:
        if token.map and token.nesting >= 0:
            line = str(token.map[0] + lines_before + 1)
            token.attrSet(html.LINE, line)
            if token.type == "html_block":
                token.content = f'<wbr {html.LINE}="{line}">{token.content}'
    return put_title_above(title, html.read_blocks(parser.renderer.render(tokens, parser.options, {})))


def split_front_matter(content: str) -> tuple[str, str]:
    """Return the title in a text's front matter, "" if there is none, and the text after it."""
    if content.startswith("{"):
        try:
            fields, end = json.JSONDecoder().raw_decode(content)  # Hugo's third form
        except (ValueError, RecursionError):
            return "", content
        return _get_title(fields), content[end:]
    if not (match := _FENCED.match(content)):
        return "", content
    try:
        fields = _LOADERS[match[1]](match[2])
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that does not exist is a ValueError
        return "", content[match.end() :] if _KEY.match(match[2]) else content
    if fields is not None and not isinstance(fields, dict):
        return "", content  # a line and a heading with an underline
    return _get_title(fields), content[match.end() :]


def _get_title(fields: object) -> str:
    title = fields.get("title") if isinstance(fields, dict) else None
    return " ".join(title.split()) if isinstance(title, str) else ""
