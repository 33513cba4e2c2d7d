"""One OpenAI-compatible endpoint: asked with a schema where it takes one, retried while busy, its replies kept."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from embed_foundry import InputError, RemoteError, RetryableError, manifest

from stages.common.config.finetune import LlmEndpoint
from stages.common.sources.hub import Connection
from stages.common.sources.hub.retries import HubUnavailable, RetryingClient
from stages.finetune.llm.answers import NotCompletionError, RefusedAnswerError, read_content

# A model that thinks on a CPU may take minutes for a reply; a connection does not.
CONNECTION = Connection(attempts=5, timeout_s=300)
CONNECT_S = 10
# So often is a request asked before it counts as unanswered; from the second time on with another seed.
TRIES = 3
# Without it, another seed would give the same reply.
RETRY_TEMPERATURE = 0.7
# What a request may leave out, and words by which a refusal (400, 422) names it.
OPTIONS = {
    "response_format": ("response_format", "json_schema", "structured", "schema", "grammar"),
    "temperature": ("temperature",),
    "seed": ("seed",),
}
Answer = TypeVar("Answer")


@dataclass
class Usage:
    """What was asked so far.

    Attributes:
        requests: sent to the endpoint, those whose reply is refused included.
        kept: requests that were answered by a reply from an earlier run.
        refused: replies that are no answer.
        answered, unanswered: questions to the endpoint of which a reply parsed, those kept from before included; and of
            which none did.
        prompt_tokens, completion_tokens: of all replies to `requests`, as the endpoint counts them.
    """

    requests: int = 0
    kept: int = 0
    refused: int = 0
    answered: int = 0
    unanswered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, reply: object) -> None:
        """Count one reply."""
        usage = reply.get("usage") if isinstance(reply, dict) else None
        for name in ("prompt_tokens", "completion_tokens"):
            if isinstance(usage, dict) and isinstance(count := usage.get(name), int):
                setattr(self, name, getattr(self, name) + count)
        self.requests += 1

    def describe(self, config: LlmEndpoint) -> str:
        """Return the counts, and the cost if the configuration has prices, in a few words."""
        cost = ""
        if config.price:
            millionths = self.prompt_tokens * config.price.prompt + self.completion_tokens * config.price.completion
            cost = f", cost {millionths / 1e6:.4f}"
        return (
            f"{self.requests} requests, {self.refused} replies refused, {self.kept} replies kept from before, "
            f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens{cost}"
        )


class Endpoint:
    """Asks one endpoint and keeps the replies that parse: the same request is paid for once.

    Args:
        config: address, model, and the environment variable that holds the key.
        replies: folder that keeps the replies.

    Attributes:
        usage: what was asked so far.
        latest_refusal: why the last reply that is no answer is none, and how it begins.

    Raises:
        InputError: the key's environment variable is not set, or what it holds is no key.
    """

    def __init__(self, config: LlmEndpoint, replies: Path) -> None:
        self.config, self.replies = config, replies
        self.url = f"{config.url.rstrip('/')}/chat/completions"
        self.usage, self.latest_refusal = Usage(), ""
        self._refused_options: set[str] = set()
        self._client = RetryingClient(CONNECTION, "llm")
        self._client.timeout = httpx2.Timeout(CONNECTION.timeout_s, connect=CONNECT_S)
        if name := config.api_key_env:
            key = os.environ.get(name, "").strip()
            if not key:
                raise InputError(f"finetune.data.llm: {name} is not set. Set it to the endpoint's key.")
            if not key.isascii() or not key.isprintable():
                raise InputError(f"finetune.data.llm: {name} holds characters that no key has. Set it again.")
            self._client.headers["Authorization"] = f"Bearer {key}"

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(
        self, prompt: str, name: str, schema: Mapping[str, object], parse: Callable[[str], Answer]
    ) -> Answer | None:
        """Return the endpoint's answer, at temperature 0; None if no reply of TRIES parses.

        Args:
            prompt: the question.
            name: of the answer.
            schema: its JSON Schema, for an endpoint that can keep to one.
            parse: reads an answer from a reply's text, or raises RefusedAnswerError.

        Raises:
            RemoteError: the endpoint refuses, or what it sends is not a chat completion.
            RetryableError: it cannot be reached, or stays busy.
        """
        digest = hashlib.sha256(manifest.canonical([self.config.url, self.config.model, prompt, name])).hexdigest()
        path = self.replies / f"{digest}.json"
        if (kept := _read_kept(path, parse)) is not None:
            self.usage.kept += 1
            self.usage.answered += 1
            return kept
        for attempt in range(TRIES):
            reply = self._send(prompt, name, schema, attempt)
            self.usage.add(reply)
            try:
                content = read_content(reply)
                answer = parse(content)
            except RefusedAnswerError as error:
                self.usage.refused += 1
                self.latest_refusal = f"{error}: {json.dumps(reply)[:400]}"
                continue
            except NotCompletionError as error:
                raise RemoteError(
                    f"{self.url}: sends {str(error) or json.dumps(reply):.200}, expected a chat completion. Check "
                    "finetune.data.llm.url and model."
                ) from None
            _keep(path, content)
            self.usage.answered += 1
            return answer
        self.usage.unanswered += 1
        return None

    def _send(self, prompt: str, name: str, schema: Mapping[str, object], attempt: int) -> object:
        """Return what the endpoint sends, as JSON; an option that it refuses is left out from now on."""
        body = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": RETRY_TEMPERATURE if attempt else 0,
            "seed": attempt,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": name, "strict": True, "schema": schema},
            },
        }
        while True:
            sent = {key: value for key, value in body.items() if key not in self._refused_options}
            try:
                response = self._client.post(self.url, json=sent)
            except HubUnavailable as error:
                raise RetryableError(
                    f"{self.url}: cannot be reached or stays busy ({error}). Run again; replies so far are in "
                    f"{self.replies}."
                ) from None
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise RemoteError(
                    f"{self.url}: cannot be asked ({type(error).__name__}: {error}). Check finetune.data.llm.url."
                ) from None
            text = response.text
            if response.is_success:
                break
            refused = [name for name, words in OPTIONS.items() if any(word in text.lower() for word in words)]
            refused = [name for name in refused if name in sent]
            if response.status_code not in (400, 422) or not refused:
                raise RemoteError(
                    f"{self.url}: refuses with {response.status_code}: {text[:200]!r}. Check model and key."
                )
            sys.stderr.write(f"llm: the endpoint takes no {refused[0]}; asked without it\n")
            self._refused_options.add(refused[0])
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise RemoteError(
                f"{self.url}: sends {text[:200]!r}, expected a chat completion. Check finetune.data.llm.url."
            ) from None


def _read_kept(path: Path, parse: Callable[[str], Answer]) -> Answer | None:
    """Return the answer in a kept reply; None if there is none, or none that parses."""
    try:
        return parse(json.loads(path.read_bytes())["content"])
    except (OSError, ValueError, LookupError, TypeError):  # RefusedAnswerError is a ValueError
        return None


def _keep(path: Path, content: str) -> None:
    """Write a reply's text in one step, so that a kill leaves none or all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(json.dumps({"content": content}).encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
