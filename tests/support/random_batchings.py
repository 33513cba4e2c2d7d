"""Random requests through the real engine: each vector is compared with the one that its text has alone."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from embed_foundry import Bundle, open_bundle
from embed_foundry.serve.engine import Engine
from embed_foundry.serve.observer import Call, Observer
from embed_foundry.serve.requests import EmbedRequest
from embed_foundry.serve.settings import Settings

TEXT = "the bucket key list object policy role user café данные 模型 query when a region 🙂 naïve Straße"
# Words of a text: mostly short ones, as questions are, a few up to a passage.
LENGTHS, WEIGHTS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 89), (1, 4, 6, 8, 8, 6, 4, 2, 1, 0.2)
CLIENTS = 12


@dataclass(frozen=True)
class Outcome:
    """What a run saw.

    Attributes:
        texts: how many vectors were compared.
        computed: how many of them were computed; the others were in flight for another request already.
        shared: how many of those shared a call with others.
        differing: how many vectors had another byte than alone.
        seconds: how long it took.
    """

    texts: int
    computed: int
    shared: int
    differing: int
    seconds: float


class Counter(Observer):
    """Counts the texts of calls."""

    def __init__(self) -> None:
        self.computed = self.shared = 0

    def on_call(self, call: Call) -> None:
        """Count a call."""
        self.computed += call.texts
        self.shared += call.texts if call.texts > 1 else 0


def make_texts(chance: random.Random, count: int) -> list[str]:
    """Return random texts, an empty one among them."""
    words = TEXT.split()
    return ["", *(" ".join(chance.choices(words, k=chance.choices(LENGTHS, WEIGHTS)[0])) for _ in range(count - 1))]


def run(bundle: Bundle, variant: str, count: int, lanes: int, seed: int = 0, *, report: bool = False) -> Outcome:
    """Have an engine compute `count` texts in random requests of several clients.

    Args:
        bundle: the release.
        variant: which of its variants.
        count: texts to compare, at least.
        lanes: calls at once.
        seed: of the random choices.
        report: whether to print how far it is.
    """
    chance = random.Random(seed)
    texts = make_texts(chance, 600)
    encoder = open_bundle(bundle.folder, variant, threads=1)
    alone = {text: encoder.encode([text])[0].tobytes() for text in texts}
    counter, started = Counter(), time.monotonic()
    asked = differing = 0

    async def client(engine: Engine) -> None:
        nonlocal asked, differing
        while asked < count:
            chosen = choose(chance, texts)
            asked += len(chosen)
            answer = await engine.embed(EmbedRequest(chosen, variant))
            vectors = zip(answer.vectors, chosen, strict=True)
            differing += sum(vector.tobytes() != alone[text] for vector, text in vectors)

    async def tell() -> None:
        while True:
            await asyncio.sleep(20)
            print(f"{variant}: {asked} of {count}, {differing} differ, {time.monotonic() - started:.0f} s", flush=True)

    async def main() -> None:
        engine = Engine(bundle, Settings(threads=lanes, lanes=lanes, deadline_s=600), None, counter)
        telling = asyncio.create_task(tell()) if report else None
        try:
            await asyncio.gather(*(client(engine) for _ in range(CLIENTS)))
        finally:
            if telling:
                telling.cancel()
            await engine.close()

    asyncio.run(main())
    return Outcome(asked, counter.computed, counter.shared, differing, time.monotonic() - started)


def choose(chance: random.Random, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of a request: mostly few, some many."""
    return tuple(chance.choices(texts, k=chance.choice([1, 1, 1, 2, 3, 7, 40])))
