"""Sixteen processes race for one channel, promotions against rollbacks, on a file system without hard links.

`python -m support.store_racers ROUNDS A B C`: three releases of the store that the environment names. In each round a
new channel went from A to B; half of the racers promote C, half roll back. Prints, for each round, how many moved the
channel and how many lost, and got a message that says where it is now.
"""

import multiprocessing
import sys
from dataclasses import dataclass
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Barrier

from embed_foundry import RetryableError
from embed_foundry.store import load_channel, open_store, promote, rollback
from embed_foundry.store.store import Store

from support.refused_calls import NO_LINKS, refuse

RACERS = 16
WON, LOST = 1, 2


@dataclass
class WaitingStore:
    """A store on which all racers write at the same time: after each of them has read."""

    store: Store
    ready: Barrier

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> bool:
        self.ready.wait()
        return self.store.compare_and_swap(key, data, version)


def race(number: int, rounds: int, release: str, unused: Store, ready: Barrier, outcomes: SynchronizedArray) -> None:
    """Move each round's channel, once, and write down what came of it."""
    refuse(NO_LINKS)
    store = WaitingStore(unused, ready)
    for index in range(rounds):
        ready.wait()
        try:
            if number % 2:
                rollback(store, f"race{index}")
            else:
                promote(store, f"race{index}", release)
            outcomes[index * RACERS + number] = WON
        except RetryableError as error:
            current = load_channel(store, f"race{index}").release
            if f"channel race{index} is at {current} (move 3" in str(error):
                outcomes[index * RACERS + number] = LOST


def main(rounds: int, releases: list[str]) -> None:
    """Start the racers and print each round's result."""
    context = multiprocessing.get_context("fork")
    ready, outcomes = context.Barrier(RACERS, timeout=60), context.Array("i", rounds * RACERS)
    store = open_store(None, None)
    for index in range(rounds):
        for release in releases[:2]:
            promote(store, f"race{index}", release)
    unused = open_store(None, None)  # made once, since boto3 takes a second; without connections to share
    arguments = (rounds, releases[2], unused, ready, outcomes)
    racers = [context.Process(target=race, args=(number, *arguments)) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    for index in range(rounds):
        round_outcomes = outcomes[index * RACERS : (index + 1) * RACERS]
        print(round_outcomes.count(WON), round_outcomes.count(LOST))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
