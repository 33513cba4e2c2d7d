"""Clients that ask a service without a pause while a test changes something beneath it."""

import threading
from dataclasses import dataclass, field
from typing import Self

import httpx2
import numpy as np


@dataclass(frozen=True)
class Answer:
    """What a client got: the status, the headers that say who answered, the vector or why there is none."""

    status: int
    release: str
    space: str
    vector: bytes
    refusal: str
    variant: str = ""


def ask(url: str, text: str = "a question", model: str = "auto", client: httpx2.Client | None = None) -> Answer:
    """Ask for a text's vector."""
    body = {"input": text, "model": model}
    response = (client or httpx2).post(f"{url}/v1/embeddings", json=body, timeout=60)
    vector = b""
    if response.status_code == 200:
        vector = np.array(response.json()["data"][0]["embedding"], dtype=np.float32).tobytes()
    headers = response.headers
    refusal = "" if response.status_code == 200 else response.text
    release, space, variant = (headers.get(name, "") for name in ("X-Release", "X-Space-Id", "X-Variant"))
    return Answer(response.status_code, release, space, vector, refusal, variant)


@dataclass
class Traffic:
    """Threads that ask until the block ends; `answers` has all that they got, `faults` what failed on the way."""

    url: str
    model: str = "auto"
    clients: int = 6
    answers: list[Answer] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx2.Client() as client:
            while not self._ended.wait(0.002):
                try:
                    self.answers.append(ask(self.url, model=self.model, client=client))
                except httpx2.HTTPError as error:
                    self.faults.append(repr(error))
