"""Questions about passages, written and judged by an OpenAI-compatible endpoint. Every reply is kept."""

import hashlib
import json
import os
import re
from pathlib import Path

from embed_foundry import InputError, RemoteError, RetryableError, manifest

from stages.common.config.finetune import LlmEndpoint
from stages.common.contract.progress import bar
from stages.finetune.documents import Passage
from stages.finetune.triplets import Triplet

QUESTION_PROMPT = (
    "Write {count} different questions that a user could ask a search engine and that this passage answers. "
    "Do not mention the passage; do not copy its sentences. One question a line, nothing else.\n\n"
    "Title: {title}\nPassage: {text}"
)
JUDGE_PROMPT = (
    "How well does the passage answer the question? 5: fully, 4: mostly, 3: in part, 2: hardly, 1: not at all. "
    "Reply with the number alone.\n\nQuestion: {question}\nPassage: {text}"
)
TIMEOUT_S = 120
TRIES = 4
LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s*")


class Client:
    """Asks one endpoint, retries while it is busy, and keeps its replies: the same request is paid for once.

    Args:
        config: address, model, and the environment variable that holds the key.
        replies: folder that keeps the replies.
    """

    def __init__(self, config: LlmEndpoint, replies: Path) -> None:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self.config, self.replies = config, replies
        self.session = requests.Session()
        if config.api_key_env:
            if not (key := os.environ.get(config.api_key_env)):
                raise InputError(f"finetune.data.llm: {config.api_key_env} is not set. Set it to the endpoint's key.")
            self.session.headers["Authorization"] = f"Bearer {key}"
        retrying = HTTPAdapter(
            max_retries=Retry(
                TRIES, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None
            )
        )
        self.session.mount("http://", retrying)
        self.session.mount("https://", retrying)

    def complete(self, prompt: str) -> str:
        """Return the endpoint's reply at temperature 0.

        Raises:
            RemoteError: it refuses, or its reply is not a chat completion.
            RetryableError: it cannot be reached, or stays busy.
        """
        import requests

        body: dict[str, str | int | list[dict[str, str]]] = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "seed": 0,
        }
        digest = hashlib.sha256(manifest.canonical([self.config.url, body])).hexdigest()
        path = self.replies / f"{digest}.json"
        if path.is_file():
            return str(json.loads(path.read_bytes()))
        url = f"{self.config.url.rstrip('/')}/chat/completions"
        try:
            response = self.session.post(url, json=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise RetryableError(
                f"{url}: cannot be reached or stays busy ({error}). Run again; replies so far are in {self.replies}."
            ) from None
        if not response.ok:
            raise RemoteError(
                f"{url}: refuses with {response.status_code}: {response.text[:200]}. Check model and key."
            )
        try:
            reply = str(response.json()["choices"][0]["message"]["content"])
        except (ValueError, LookupError, TypeError):
            raise RemoteError(
                f"{url}: replies {response.text[:200]!r}, expected a chat completion. Check the url."
            ) from None
        self.replies.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(reply), encoding="utf-8")
        partial.replace(path)
        return reply


def generate_examples(passages: list[Passage], config: LlmEndpoint, replies: Path) -> tuple[list[Triplet], int]:
    """Return the examples whose question the judge accepts, and how many questions it rejects.

    Args:
        passages: what to ask about.
        config: the endpoint, questions per passage, and the lowest accepted mark (None: no judge).
        replies: folder that keeps the endpoint's replies.

    Raises:
        RemoteError: the endpoint refuses.
        RetryableError: it cannot be reached.
    """
    client = Client(config, replies)
    triplets, rejected = [], 0
    with bar("questions", len(passages)) as progress:
        for passage in passages:
            title = ": ".join(passage.titles[-2:]) or passage.document
            prompt = QUESTION_PROMPT.format(count=config.queries, title=title, text=passage.text)
            lines = client.complete(prompt).splitlines()
            questions = [question for line in lines if (question := LIST_MARK.sub("", line).strip())]
            for question in dict.fromkeys(questions[: config.queries]):
                if _passes_judge(client, question, passage.text):
                    triplets.append(Triplet(question, passage.text, group=passage.document))
                else:
                    rejected += 1
            progress.update(1)
    return triplets, rejected


def _passes_judge(client: Client, question: str, text: str) -> bool:
    minimum = client.config.judge_min
    if minimum is None:
        return True
    mark = re.search(r"[1-5]", client.complete(JUDGE_PROMPT.format(question=question, text=text)))
    return mark is not None and int(mark[0]) >= minimum
