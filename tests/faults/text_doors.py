"""The doors of documents and of an LLM's replies, and whole ones to damage."""

import io
import json
from contextlib import suppress

from faults.doors import Parser, write_then

from stages.common.sources import documents
from stages.finetune.llm import answers


def make_document(name: str, *valid: bytes, share: float = 1.0) -> Parser:
    return Parser(valid, write_then(name, documents.read_document), structured=False, share=share)


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


def read_reply(data: bytes) -> object:
    text = (
        data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace")
        if decodes(data)
        else data.decode("latin-1")
    )
    results = []
    for parse in (answers.parse_questions, answers.parse_mark):
        with suppress(answers.RefusedAnswerError):
            results.append(parse(text))
    return results


def decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def read_completion(data: bytes) -> object:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return read_reply(answers.read_content(value).encode("utf-8", "surrogatepass"))


class Stream:
    """A standard input of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)
