"""Questions about passages from an OpenAI-compatible endpoint, and its judgement of them; every reply is kept."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from embed_foundry import InputError, RemoteError, RetryableError, manifest

from stages.common.config.finetune import LlmEndpoint
from stages.common.contract.progress import bar
from stages.finetune.documents import Passage
from stages.finetune.triplets import Triplet

ASK = (
    "Write {count} different questions that a user could ask a search engine and that this passage answers. "
    "Do not mention the passage; do not copy its sentences. One question a line, nothing else.\n\n"
    "Title: {title}\nPassage: {text}"
)
JUDGE = (
    "How well does the passage answer the question? 5: fully, 4: mostly, 3: in part, 2: hardly, 1: not at all. "
    "Reply with the number alone.\n\nQuestion: {question}\nPassage: {text}"
)
TIMEOUT_S = 120
TRIES = 4
LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s*")


class Client:
    """Asks one endpoint, with patience, and keeps replies: the same question is paid for once.

    Args:
        config: address, model, and the environment variable that holds the key.
        kept: folder of replies.
    """

    def __init__(self, config: LlmEndpoint, kept: Path) -> None:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self.config, self.kept = config, kept
        self.session = requests.Session()
        if config.api_key_env:
            if not (key := os.environ.get(config.api_key_env)):
                raise InputError(f"finetune.data.llm: {config.api_key_env} is not set. Set it to the endpoint's key.")
            self.session.headers["Authorization"] = f"Bearer {key}"
        patient = HTTPAdapter(
            max_retries=Retry(
                TRIES, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None
            )
        )
        self.session.mount("http://", patient)
        self.session.mount("https://", patient)

    def reply(self, question: str) -> str:
        """Return the endpoint's answer at temperature 0.

        Raises:
            RemoteError: it refuses, or answers with something else than a chat completion.
            RetryableError: it cannot be reached, or stays busy.
        """
        import requests

        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "seed": 0,
        }
        asked = hashlib.sha256(manifest.canonical([self.config.url, body])).hexdigest()
        path = self.kept / f"{asked}.json"
        if path.is_file():
            return str(json.loads(path.read_bytes()))
        url = f"{self.config.url.rstrip('/')}/chat/completions"
        try:
            answer = self.session.post(url, json=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise RetryableError(
                f"{url}: cannot be reached or stays busy ({error}). Run again; replies so far are kept in {self.kept}."
            ) from None
        if not answer.ok:
            raise RemoteError(f"{url}: refuses with {answer.status_code}: {answer.text[:200]}. Check model and key.")
        try:
            found = str(answer.json()["choices"][0]["message"]["content"])
        except (ValueError, LookupError, TypeError):
            raise RemoteError(
                f"{url}: answers {answer.text[:200]!r}, expected a chat completion. Check the url."
            ) from None
        self.kept.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(path)
        return found


def by_questions(found: list[Passage], config: LlmEndpoint, kept: Path) -> tuple[list[Triplet], int]:
    """Return the triplets whose question the judge accepts, and how many it refused.

    Args:
        found: passages.
        config: the endpoint, questions a passage, and the least mark that a question needs (None: no judge).
        kept: folder of replies.

    Raises:
        RemoteError: the endpoint refuses.
        RetryableError: it cannot be reached.
    """
    client = Client(config, kept)
    triplets, refused = [], 0
    with bar("questions", len(found)) as progress:
        for passage in found:
            title = ": ".join(passage.titles[-2:]) or passage.document
            lines = client.reply(ASK.format(count=config.queries, title=title, text=passage.text)).splitlines()
            questions = [one for line in lines if (one := LIST_MARK.sub("", line).strip())]
            for question in dict.fromkeys(questions[: config.queries]):
                if _accepted(client, question, passage.text):
                    triplets.append(Triplet(question, passage.text, group=passage.document))
                else:
                    refused += 1
            progress.update(1)
    return triplets, refused


def _accepted(client: Client, question: str, text: str) -> bool:
    least = client.config.judge_min
    if least is None:
        return True
    mark = re.search(r"[1-5]", client.reply(JUDGE.format(question=question, text=text)))
    return mark is not None and int(mark[0]) >= least
