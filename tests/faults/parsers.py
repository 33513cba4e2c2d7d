"""Every parser of what people and stores bring, by the public door behind which it stands, with valid files to damage.

A door is made for one folder and called with a file's bytes. It returns, or raises a FoundryError.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from embed_foundry import Bundle, Variant, archive, contract, manifest, text_lines
from safetensors.numpy import save

from stages.commands import compose
from stages.commands.promote.channel import append_move
from stages.commands.promote.file_store import FileStore
from stages.commands.promote.moves import list_channels, load_channel
from stages.commands.promote.releases import load_manifest
from stages.common import config
from stages.common.records.base import JsonFile
from stages.common.records.latency import LatencyReport
from stages.common.records.machine import Machine
from stages.common.records.scores import Compatibility, Floor, Samples, Scores, TruncatedScores
from stages.common.records.verdict import Verdict
from stages.common.sources import documents, intake
from stages.common.sources.base_model.layout import list_weights, read_modules
from stages.common.sources.hub import Connection, HubClient, Repository
from stages.common.sources.hub_model import ModelGuidance
from stages.common.sources.suite_files import TaskFiles
from stages.common.sources.suite_files.layout import ColumnType, TaskLayout
from stages.data import user_folder
from stages.finetune import triplet_files
from stages.finetune.llm import answers
from support import sample_documents, small_release, tiny_model
from support.gate_facts import MACHINE, latency_report
from support.local_server import LocalServer, reply

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "bundle-2-of-2026-11-26.tar"
Door = Callable[[bytes], object]


@dataclass(frozen=True)
class Parser:
    """A parser to be given damaged files.

    Attributes:
        valid: whole files, which it must read.
        open_door: makes the door in a folder; a generator that cleans up behind it.
        structured: the files are JSON or JSON lines.
        refusal: the error that callers of an inner parser turn into a message; none for doors.
        file: the file's name, which messages hold, or else its folder's; "" if there is none.
        lists_faults: its messages have a line for each fault.
        reads_valid: the files are whole; else they only begin to be.
        share: of the many files, where each takes ten times as long as elsewhere.
    """

    valid: tuple[bytes, ...]
    open_door: Callable[[Path], "Iterator[Door]"]
    structured: bool = True
    refusal: type[Exception] | tuple[type[Exception], ...] = ()
    file: str = ""
    lists_faults: bool = False
    reads_valid: bool = True
    share: float = 1.0


def _write_then(name: str, read: Callable[[Path], object]) -> Callable[[Path], Iterator[Door]]:
    """Return an `open_door` that writes the bytes to a file, and reads it."""

    def open_door(folder: Path) -> Iterator[Door]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def door(data: bytes) -> object:
            path.write_bytes(data)
            return read(path)

        yield door

    return open_door


def _in_folder(name: str, read: Callable[[Path], object]) -> Callable[[Path], Iterator[Door]]:
    return _write_then(name, lambda path: read(path.parents[len(Path(name).parts) - 1]))


def _call(read: Callable[[bytes], object]) -> Callable[[Path], Iterator[Door]]:
    def open_door(_: Path) -> Iterator[Door]:
        yield read

    return open_door


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _lines(*table: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table).encode()


def _golden(name: str) -> bytes:
    with tarfile.open(GOLDEN) as tar:
        (member,) = [member for member in tar.getmembers() if member.name.partition("/")[2] == name]
        return tar.extractfile(member).read()


# ---- releases


def _open_release(changed: str) -> Callable[[Path], Iterator[Door]]:
    """Return an `open_door` that puts bytes into a release, makes every manifest fit them, and opens it."""

    def open_door(folder: Path) -> Iterator[Door]:
        bundle = archive.unpack(GOLDEN, folder).folder
        path = bundle / changed
        inner = next(
            (bundle / part for part in ("variants/static", "evidence/catalog") if changed.startswith(part)), None
        )

        def door(data: bytes) -> object:
            path.write_bytes(data)
            if inner:
                small_release.refit(inner)
            if changed != contract.NAME:  # its content's digest; what else it says may differ
                small_release.seal(bundle)
            else:
                small_release.refit(bundle)
            return Bundle.load(bundle).open()

        yield door

    return open_door


def _sealed_manifest(folder: Path) -> Iterator[Door]:
    """Give a changed manifest the digest that fits it."""

    def door(data: bytes) -> object:
        with suppress(ValueError, RecursionError, AttributeError, TypeError):
            body = json.loads(data)
            body.pop("digest", None)
            body["digest"] = hashlib.sha256(manifest.canonical(body)).hexdigest()
            data = manifest.canonical(body)
        (folder / manifest.NAME).write_bytes(data)
        return manifest.verify(folder)

    yield door


def _unpack(folder: Path) -> Iterator[Door]:
    def door(data: bytes) -> object:
        (folder / "it.tar").write_bytes(data)
        before = {path.name for path in folder.iterdir()}
        try:
            return archive.unpack(folder / "it.tar", folder / "into")
        finally:
            assert {path.name for path in folder.iterdir()} <= before | {"into"}, "something lies outside"
            shutil.rmtree(folder / "into", ignore_errors=True)

    yield door


def _small_tars() -> tuple[bytes, ...]:
    """Return tars of a bundle's layout with two small files, in three formats."""
    tars = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            for name, content in {
                "it/manifest.json": b"{}",
                "it/模型.txt" if form != tarfile.USTAR_FORMAT else "it/a": b"x" * 600,
            }.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        tars.append(file.getvalue())
    return tuple(tars)


def _store(key: str, read: Callable[[FileStore], object]) -> Callable[[Path], Iterator[Door]]:
    return _in_folder(key, lambda folder: read(FileStore(folder)))


def _channel() -> bytes:
    channel = None
    for action, digit in (("promote", "a"), ("promote", "b"), ("rollback", "a")):
        channel = append_move(channel, "stable", action, digit * 64, "2026-11-27T10:00:00Z", digit * 32, None)
    return channel.dump()


def _list_history(store: FileStore) -> object:
    return [load_channel(store, name) for name in list_channels(store)]


STORED = _golden("manifest.json")
STORED_DIGEST = json.loads(STORED)["digest"]


# ---- configuration and suites

PARAMS = yaml.safe_load(compose.compose([], ROOT / "conf"))
SMALL_YAML = b"""model: {name: tiny, files: {a.json: null}}
target:
  limits:
    default: {a: 1.5, b: [1, two]}
baseline: 'fp32'  # kept
"""


def _parse_params(data: bytes) -> object:
    try:
        value = _restore_numbers(json.loads(data))
    except (ValueError, RecursionError):
        return None
    return config.parse(value, "conf/")


def _restore_numbers(value: Any) -> Any:
    """Return a value whose keys are numbers again, as YAML has them."""
    if isinstance(value, list):
        return [_restore_numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        int(key) if key.isascii() and key.isdecimal() and len(key) < 9 else key: _restore_numbers(item)
        for key, item in value.items()
    }


def _read_split(layout: TaskLayout) -> Callable[[Path], object]:
    return lambda folder: user_folder.read_split(TaskFiles(folder, layout), "default", layout.splits[0])


LABELLED = TaskLayout(("test",), {"text": ColumnType.TEXT, "label": ColumnType.LABEL})
LISTS = TaskLayout(("test",), {"sentences": ColumnType.TEXTS, "labels": ColumnType.LABELS})
SCORED = TaskLayout(("test",), {"sentence1": ColumnType.TEXT, "sentence2": ColumnType.TEXT, "score": ColumnType.NUMBER})
RETRIEVAL = TaskLayout(("test",), retrieval=True, ranked=True)
RETRIEVAL_FILES = {
    "corpus.jsonl": _lines({"id": "d1", "title": "t", "text": "one"}, {"_id": "d2", "text": "two"}),
    "queries.jsonl": _lines({"id": "q1", "text": "who"}, {"_id": "q2", "text": "what", "instruction": "find"}),
    "qrels.tsv": b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\n",
    "ranked.jsonl": _lines({"query-id": "q1", "corpus-ids": ["d1", "d2"]}, {"query-id": "q2", "corpus-ids": ["d2"]}),
}


def _retrieval(name: str) -> Parser:
    def open_door(folder: Path) -> Iterator[Door]:
        for other, content in RETRIEVAL_FILES.items():
            (folder / other).write_bytes(content)
        yield from _in_folder(name, _read_split(RETRIEVAL))(folder)

    return Parser((RETRIEVAL_FILES[name],), open_door, structured=name != "qrels.tsv")


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["one", "two"], "label": [0, 1]}), file)
    return file.getvalue()


# ---- models and the hub


def _ask_hub(folder: Path) -> Iterator[Door]:
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


def _records(*kinds: tuple[type[JsonFile], Any]) -> dict[str, Parser]:
    return {
        f"record {kind.__name__}": Parser(
            (content if isinstance(content, bytes) else _json(content),), _write_then("it.json", kind.load)
        )
        for kind, content in kinds
    }


# ---- documents and replies


def _document(name: str, *valid: bytes) -> Parser:
    return Parser(valid, _write_then(name, documents.read_document), structured=False)


MARKDOWN = b"""---
title: "A title"
tags: [a, b]
---
# One

Text with *emphasis*, `code`, a [link](https://example.org "t") and ![image](x.png).

```python
# no heading
```

1. first
   - nested

     > quoted **text**

| a | b |
|---|:-:|
| 1 | 2 |

Two
===

<div class="x">raw <b>HTML</b></div> &amp; &#x6A21;&copy;  \nand a hard break[^1]

[^1]: a note
"""
HTML = """<!DOCTYPE html><html lang="de"><head><meta charset="utf-8"><title>Titel</title><style>p{}</style></head>
<body><h1>Eins</h1><p>Ein <b>Text</b> &amp; &#x6A21;</p><table><tr><th>a<td>1</table><pre>code
lines</pre><ul><li>x<ul><li>y</ul></ul><script>if (a<b) {}</script><svg><text>t</text></svg>
<h2>模型</h2>文本。</body></html>
""".encode()
REPLIES = (
    b'<think>1. what?\n{"mark": 2}</think>\n{"questions": ["What is it?", "Why 3?"]}',
    b'```json\n{"questions": ["What?"], "mark": 4}\n```',
    b'["one", "two"]',
    b"1. What is it?\n2. Why is it so?\n",
    b'{"mark": 5}',
)
COMPLETION = {
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '{"mark": 3}'}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def _read_reply(data: bytes) -> object:
    text = (
        data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace")
        if _decodes(data)
        else data.decode("latin-1")
    )
    results = []
    for parse in (answers.parse_questions, answers.parse_mark):
        with suppress(answers.RefusedAnswerError):
            results.append(parse(text))
    return results


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _read_completion(data: bytes) -> object:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return _read_reply(answers.read_content(value).encode("utf-8", "surrogatepass"))


class _Stream:
    """A standard input of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


SAFETENSORS = save({"embeddings": np.ones((2, 3), "float32"), "weights": np.ones(2, "float32")})
TRIPLETS = [
    {"anchor": "what is it", "positive": "it is this", "negative": "not that", "negative_2": None},
    {"anchor": "who", "positive": "she", "negatives": ["he", "they"]},
]
MODEL = tiny_model.files()
VERDICT = _golden("evidence/verdict.json")

PARSERS: dict[str, Parser] = {
    "manifest": Parser((STORED,), _in_folder("manifest.json", manifest.read)),
    "manifest with a digest that fits": Parser(
        (
            manifest.canonical(
                {
                    "schema": 1,
                    "stage": "data",
                    "files": {"a": {"sha256": "0" * 64, "size": 1}},
                    "inputs": {},
                    "parameters": {"a": [1]},
                }
            ),
        ),
        _sealed_manifest,
        reads_valid=False,
    ),
    "bundle.json": Parser((_golden("bundle.json"),), _in_folder("bundle.json", contract.Contract.load)),
    "variant.json": Parser((_golden("variants/static/variant.json"),), _in_folder("variant.json", Variant.load)),
    **{
        f"release with another {name}": Parser(
            (_golden(name),), _open_release(name), structured=name.endswith(".json"), share=0.02
        )
        for name in (
            *("bundle.json", "evidence/verdict.json", "evidence/catalog/catalog.json", "bom.cdx.json"),
            *("variants/static/variant.json", "variants/static/tokenizer.json", "variants/static/table.safetensors"),
            *("probes/probes.json", "probes/golden.safetensors"),
        )
    },
    "tar": Parser(_small_tars(), _unpack, structured=False, reads_valid=False),
    "channel": Parser((_channel(),), _store("channels/stable.json", _list_history)),
    "manifest in a store": Parser(
        (STORED,), _store(f"releases/{STORED_DIGEST}/manifest.json", lambda store: load_manifest(store, STORED_DIGEST))
    ),
    "params": Parser((_json(PARAMS),), _call(_parse_params), lists_faults=True),
    "params.yaml": Parser(
        (SMALL_YAML,), _write_then("params.yaml", config.load), structured=False, lists_faults=True, reads_valid=False
    ),
    "safetensors": Parser(
        (SAFETENSORS, MODEL["2_Dense/model.safetensors"]),
        _write_then("a.safetensors", intake.check_file),
        structured=False,
    ),
    "config.json of a model": Parser(
        (
            _json({"auto_map": {"AutoModel": "m.BertModel"}, "activation_function": "torch.nn.Tanh", "a": [{"b": 1}]}),
            MODEL["config.json"],
        ),
        _write_then("config.json", intake.check_file),
    ),
    "modules.json": Parser((MODEL["modules.json"],), _in_folder("modules.json", read_modules)),
    "index of weights": Parser(
        (_json({"metadata": {"total_size": 1}, "weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}),),
        _in_folder("model.safetensors.index.json", list_weights),
    ),
    "jsonl": Parser(
        (_lines({"text": "a", "label": 0}, {"text": "b", "label": 1}),), _in_folder("test.jsonl", _read_split(LABELLED))
    ),
    "jsonl of lists": Parser(
        (_lines({"sentences": ["a", "b"], "labels": [0, 1]}),), _in_folder("test.jsonl", _read_split(LISTS))
    ),
    "csv": Parser(
        (b'text,label\n"a, b",0\n"c""d",1\n', b"\xef\xbb\xbftext,label\r\nx,one\r\n"),
        _in_folder("test.csv", _read_split(LABELLED)),
        structured=False,
    ),
    "csv of scores": Parser(
        (b'sentence1,sentence2,score\na,b,0.5\n"c\nd",e,1e3\n',),
        _in_folder("test.csv", _read_split(SCORED)),
        structured=False,
    ),
    "parquet": Parser((_parquet(),), _in_folder("test.parquet", _read_split(LABELLED)), structured=False),
    **{name: _retrieval(name) for name in RETRIEVAL_FILES},
    "triplets.jsonl": Parser((_lines(*TRIPLETS),), _write_then("t.jsonl", triplet_files.read_triplets)),
    "triplets.csv": Parser(
        (b"anchor,positive,negative\nwhat,it,that\nwho,she,\n",),
        _write_then("t.csv", triplet_files.read_triplets),
        structured=False,
    ),
    "hub metadata": Parser((_json(HUB_ANSWER),), _ask_hub, share=0.02),
    **_records(
        (Verdict, VERDICT),
        (LatencyReport, _json(latency_report({"fp32": small_release.times()}))),
        (Machine, MACHINE),
        (
            Scores,
            {
                "fp32": {"384": {"T": {"type": "STS", "metric": "cosine_spearman", "main_score": 0.5, "samples": 3}}},
                "b": {"error": "x"},
            },
        ),
        (Samples, {"384": {"T": {"default": {"cosine": [0.1, 0.2], "gold": [1, 2]}}}}),
        (Floor, {"T": 0.25}),
        (Compatibility, {"T": {"a": {"b": {"ndcg_at_10": 0.1, "recall_at_10": 0.2, "overlap_at_10": 0.3}}}}),
        (TruncatedScores, {"T": {"fp32": {"128": 0.5}}}),
    ),
    "document.md": _document("a.md", MARKDOWN),
    "document.html": _document("a.html", HTML),
    "document.txt": _document(
        "a.txt", "Ein Text.\n\nNoch einer – mit Zeichen.\n模型。".encode(), "\ufeffText".encode("utf-16")
    ),
    "document.pdf": _document(
        "a.pdf",
        sample_documents.write_chinese_pdf("模型"),
    ),
    "document.docx": _document(
        "a.docx", sample_documents.write_docx(("Titel", "Title"), ("Standard", "A text."), table=(("a", "b"),))
    ),
    "reply of a model": Parser(REPLIES, _call(_read_reply)),
    "completion": Parser(
        (_json(COMPLETION),), _call(_read_completion), refusal=(answers.RefusedAnswerError, answers.NotCompletionError)
    ),
    "lines of standard input": Parser(
        ("one\r\nzwei\n模型".encode(), b"\xef\xbb\xbfa\n"),
        _call(lambda data: text_lines.read_lines(_Stream(data))),
        structured=False,
    ),
}
