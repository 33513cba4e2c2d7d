"""The doors of configurations, suites, models and a hub's answers."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from faults.doors import ROOT, Door, Parser, as_json, as_jsonl, in_folder, write_then

from stages.commands import compose
from stages.common import config
from stages.common.records.base import JsonFile
from stages.common.sources.hub import Connection, HubClient, Repository
from stages.common.sources.hub_model import ModelGuidance
from stages.common.sources.suite_files import TaskFiles
from stages.common.sources.suite_files.layout import ColumnType, TaskLayout
from stages.data import user_folder
from support import tiny_model
from support.local_server import LocalServer, reply

PARAMS = yaml.safe_load(compose.compose([], ROOT / "conf"))
SMALL_YAML = b"""model: {name: tiny, files: {a.json: null}}
target:
  limits:
    default: {a: 1.5, b: [1, two]}
baseline: 'fp32'  # kept
"""


def parse_params(data: bytes) -> object:
    try:
        value = restore_numbers(json.loads(data))
    except (ValueError, RecursionError):
        return None
    return config.parse(value, "conf/")


def restore_numbers(value: Any) -> Any:
    """Return a value whose keys are numbers again, as YAML has them."""
    if isinstance(value, list):
        return [restore_numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        int(key) if key.isascii() and key.isdecimal() and len(key) < 9 else key: restore_numbers(item)
        for key, item in value.items()
    }


def read_split(layout: TaskLayout) -> Callable[[Path], object]:
    return lambda folder: user_folder.read_split(TaskFiles(folder, layout), "default", layout.splits[0])


LABELLED = TaskLayout(("test",), {"text": ColumnType.TEXT, "label": ColumnType.LABEL})
LISTS = TaskLayout(("test",), {"sentences": ColumnType.TEXTS, "labels": ColumnType.LABELS})
SCORED = TaskLayout(("test",), {"sentence1": ColumnType.TEXT, "sentence2": ColumnType.TEXT, "score": ColumnType.NUMBER})
RETRIEVAL = TaskLayout(("test",), retrieval=True, ranked=True)
RETRIEVAL_FILES = {
    "corpus.jsonl": as_jsonl({"id": "d1", "title": "t", "text": "one"}, {"_id": "d2", "text": "two"}),
    "queries.jsonl": as_jsonl({"id": "q1", "text": "who"}, {"_id": "q2", "text": "what", "instruction": "find"}),
    "qrels.tsv": b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\n",
    "ranked.jsonl": as_jsonl({"query-id": "q1", "corpus-ids": ["d1", "d2"]}, {"query-id": "q2", "corpus-ids": ["d2"]}),
}


def make_retrieval(name: str) -> Parser:
    def open_door(folder: Path) -> Iterator[Door]:
        for other, content in RETRIEVAL_FILES.items():
            (folder / other).write_bytes(content)
        yield from in_folder(name, read_split(RETRIEVAL))(folder)

    return Parser((RETRIEVAL_FILES[name],), open_door, structured=name != "qrels.tsv")


def write_parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["one", "two"], "label": [0, 1]}), file)
    return file.getvalue()


def ask_hub(folder: Path) -> Iterator[Door]:
    """Answer every question about a repository with the bytes."""
    answer = b""
    with LocalServer(lambda request: reply(request, 200, {"Content-Type": "application/json"}, answer)) as server:
        model = tiny_model.config()
        connection = Connection(endpoint=server.url, cache=folder, attempts=1, wait_s=0.01, timeout_s=2, offline=False)

        def door(data: bytes) -> object:
            nonlocal answer
            answer = data
            return HubClient(
                Repository("model", model.repo, model.revision), ModelGuidance(model), connection
            ).describe()

        yield door


HUB_ANSWER = {
    "id": tiny_model.REPO,
    "sha": tiny_model.REVISION,
    "gated": "auto",
    "private": False,
    "tags": ["x"],
    "lastModified": "2024-01-01T00:00:00.000Z",
    "cardData": {"license": "mit"},
    "siblings": [
        {"rfilename": "config.json", "blobId": "a" * 40, "size": 10},
        {
            "rfilename": "m.safetensors",
            "blobId": "b" * 40,
            "size": 9,
            "lfs": {"sha256": "c" * 64, "size": 9, "pointerSize": 1},
        },
    ],
}


def make_records(*kinds: tuple[type[JsonFile], Any]) -> dict[str, Parser]:
    return {
        f"record {kind.__name__}": Parser(
            (content if isinstance(content, bytes) else as_json(content),), write_then("it.json", kind.load)
        )
        for kind, content in kinds
    }
