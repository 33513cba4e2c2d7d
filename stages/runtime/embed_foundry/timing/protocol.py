"""The protocol of a measurement: exact texts for every length, then rounds in which all variants encode them."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Never

from ..progress import share_bar
from .rounds import Series, SeriesTimes, time_series
from .sized_texts import cut_exact_texts
from .worker_pool import WorkerPool
from .worker_process import TokenCountRequest

if TYPE_CHECKING:
    from tqdm import tqdm

# Different texts of a length: no single one decides.
TEXTS = 8


@dataclass(frozen=True)
class PlannedCalls:
    """One kind of call to time.

    Attributes:
        tokens: length of each text.
        batch: texts in a call.
        texts: what is encoded in turn.
    """

    tokens: int
    batch: int
    texts: list[str]


@dataclass(frozen=True)
class Protocol:
    """What is timed, and how often: `latency` of the build's configuration, and of the release that it made.

    Attributes:
        lengths: input lengths in tokens, special tokens included.
        rounds: timed rounds a length, if `budget_s` allows.
        tight: part of a median ratio within which its interval must lie; more rounds follow until it does.
        budget_s: seconds for all timed rounds.
        gap_ms: pause before the calls whose time after a pause is taken.
        batch_size, batch_length: texts per call and tokens per text when throughput is measured.
        batch_rounds: timed rounds of that call.
        cold_starts: fresh processes per variant.
        seed: shuffles variants and texts.
    """

    lengths: Sequence[int]
    rounds: int
    tight: float
    budget_s: float
    gap_ms: float
    batch_size: int
    batch_length: int
    batch_rounds: int
    cold_starts: int
    seed: int


def plan_calls(
    protocol: Protocol, pool: WorkerPool, limits: Mapping[str, int], documents: Sequence[str]
) -> list[PlannedCalls]:
    """Return one text per call at each length, ascending, then batches.

    Lengths are exact in the baseline's tokens. Those over its limit are left out, and the batch's length is the least
    limit at most. The process that counts the tokens is not the one that is timed: after some hundred texts its
    tokenizer and its memory are warmer than the other variants' (the baseline was 10 % faster than its own twin).
    """
    lengths = [tokens for tokens in sorted(protocol.lengths) if tokens <= limits[pool.baseline]]
    batch_tokens = min(protocol.batch_length, *limits.values())
    pool.start(pool.baseline)
    plan = []
    for tokens, batch in [(tokens, 1) for tokens in lengths] + [(batch_tokens, protocol.batch_size)]:
        texts = cut_exact_texts(
            documents,
            tokens,
            max(TEXTS, batch),
            count_tokens=lambda texts: pool.ask_baseline(TokenCountRequest(texts)),
        )
        plan.append(PlannedCalls(tokens, batch, texts))
    pool.stop(pool.baseline)
    return plan


def time_all(
    protocol: Protocol,
    pool: WorkerPool,
    limits: Mapping[str, int],
    plan: Sequence[PlannedCalls],
    rng: random.Random,
    *,
    quota: bool,
) -> list[SeriesTimes]:
    """Time the planned calls; every variant encodes the same texts. Return the series, batches last.

    What a series leaves of its share of the time goes to the longer ones after it.
    """
    timed: list[SeriesTimes] = []
    spent_s = 0.0
    with share_bar("timed rounds", protocol.budget_s) as progress:
        for position, calls in enumerate(plan):
            single = calls.batch == 1
            series = Series(
                tokens=calls.tokens,
                batch=calls.batch,
                rounds=protocol.rounds if single else protocol.batch_rounds,
                seconds=max(1.0, (protocol.budget_s - spent_s) / (len(plan) - position)),
                tight=protocol.tight if single else math.inf,
                gap_s=protocol.gap_ms / 1000,
                twice=quota,
            )
            names = [name for name in pool.names if calls.tokens <= limits[name]]
            advance = partial(_advance, progress, position, protocol.budget_s / len(plan))
            times = time_series(series, pool, names, calls.texts, rng, advance)
            timed.append(times)
            spent_s += times.seconds
    return timed


def _advance(progress: "tqdm[Never]", position: int, seconds: float, share: float) -> None:
    """Show that a series, by its position in the plan, has done a share of its part of the time."""
    progress.update((position + share) * seconds - progress.n)
