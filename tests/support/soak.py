"""Long traffic on a service that follows a channel, loses workers, unloads variants and loads them again."""

import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx2
import psutil

from support.process_memory import list_workers, read_pss_mb
from support.traffic import Answer, ask

# A cycle: traffic, then a pause longer than variants may be idle, so that they are unloaded.
TRAFFIC_S, PAUSE_S = 22.0, 8.0
SAMPLE_S = 2.0
# A connection that a killed worker held breaks; so may an answer that was on its way.
BREAKS_FOR_S = 2.0
EVENT = 'te_events_total{event="'


@dataclass
class Outcome:
    """What a soak saw.

    Attributes:
        answers: statuses and how often each came.
        wrong: answers whose vector was not the release's own.
        releases: digests that answered.
        broken: requests that failed while no worker had just been killed.
        memory_mb: proportional memory of all processes, sampled in traffic: (second, MiB).
        loads: how often a variant was loaded, and unloaded.
    """

    answers: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    releases: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    killed: int = 0
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    loads: dict[str, int] = field(default_factory=dict)

    @property
    def growth(self) -> float:
        """Median memory of the last third over that of the second one; the first one fills caches."""
        seconds = self.memory_mb[-1][0]
        second = [mb for at, mb in self.memory_mb if seconds / 3 <= at < seconds * 2 / 3]
        third = [mb for at, mb in self.memory_mb if at >= seconds * 2 / 3]
        return statistics.median(third) / statistics.median(second) - 1


class Soak:
    """Traffic on a service, whose answers are compared with the vectors that each release gives by itself.

    Args:
        url: of the service.
        pid: of its supervisor.
        texts: asked at random.
        expected: (release, variant, text) -> bytes of its vector.
        models: asked at random.
        clients: how many ask at once.
    """

    def __init__(
        self,
        url: str,
        pid: int,
        texts: Sequence[str],
        expected: dict[tuple[str, str, str], bytes],
        models: Sequence[str],
        clients: int = 4,
    ) -> None:
        self._url, self._pid, self._texts, self._expected, self._models = url, pid, texts, expected, models
        self._clients = clients
        self._lock = threading.Lock()
        self._killed = 0.0
        self.outcome = Outcome()

    def run(self, seconds: float, moves: Sequence[Callable[[], None]]) -> Outcome:
        """Ask for so long; make each move of the channel in its turn, and kill a worker between two moves."""
        began = time.monotonic()
        due = [(seconds * (number + 1) / (len(moves) + 1), move) for number, move in enumerate(moves)]
        kills = [seconds * (number + 0.5) / (len(moves) + 1) for number in range(len(moves) + 1)]
        while (now := time.monotonic() - began) < seconds:
            ended = threading.Event()
            threads = [threading.Thread(target=self._ask, args=(ended, number)) for number in range(self._clients)]
            for thread in threads:
                thread.start()
            until = time.monotonic() + TRAFFIC_S
            while time.monotonic() < until:
                time.sleep(SAMPLE_S)
                now = time.monotonic() - began
                while due and due[0][0] <= now:
                    due.pop(0)[1]()
                if kills and kills[0] <= now:
                    kills.pop(0)
                    self._kill()
                if time.monotonic() - self._killed > 15:  # else a worker is about to load its variants
                    self.outcome.memory_mb.append((now, read_pss_mb(self._pid)))
            ended.set()
            for thread in threads:
                thread.join()
            memory, answers = self.outcome.memory_mb[-1:], dict(self.outcome.answers)
            print(f"{now:.0f} of {seconds:.0f} s, {memory} {answers}", file=sys.__stderr__, flush=True)
            time.sleep(PAUSE_S)
        self.outcome.loads = self._count_events()
        return self.outcome

    def _ask(self, ended: threading.Event, seed: int) -> None:
        chance = random.Random(seed + time.monotonic())
        with httpx2.Client() as client:
            while not ended.wait(0.05):
                text, model = chance.choice(self._texts), chance.choice(self._models)
                began = time.monotonic()
                try:
                    answer = ask(self._url, text, model, client)
                except httpx2.HTTPError as error:
                    if not 0 <= time.monotonic() - self._killed < BREAKS_FOR_S + time.monotonic() - began:
                        self.outcome.broken.append(repr(error))
                    continue
                self._judge(answer, text)

    def _judge(self, answer: Answer, text: str) -> None:
        with self._lock:
            self.outcome.answers[answer.status] += 1
            if answer.status == 200:
                self.outcome.releases.add(answer.release)
                self.outcome.wrong += self._expected[answer.release, answer.variant, text] != answer.vector
            else:
                self.outcome.broken.append(answer.refusal)

    def _kill(self) -> None:
        worker = random.choice(list_workers(self._pid))
        self._killed = time.monotonic()
        psutil.Process(worker).kill()
        self.outcome.killed += 1

    def _count_events(self) -> dict[str, int]:
        lines = httpx2.get(f"{self._url}/metrics", timeout=30).text.splitlines()
        events = (
            line.removeprefix('te_events_total{event="').split('"} ') for line in lines if "te_events_total{" in line
        )
        return {name: int(float(count)) for name, count in events}
