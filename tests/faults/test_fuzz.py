"""Damaged files: every parser reads them or refuses them in a message; no other exception, no hang, no hunger."""

import re
import resource
import signal
import time
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from embed_foundry.errors import FoundryError
from faults.doors import Door, Parser, read_graph, read_variant
from faults.parsers import PARSERS
from hypothesis import HealthCheck, Phase, given, settings

from support.mutations import damage, damaged

SAMPLE, MANY = 60, 100_000
# A file of a few kilobytes; on a busy machine.
DEADLINE = timedelta(seconds=20)
MEMORY_MB = 1000
LONGEST = 20_000
# Parser -> a file whose damage once ended in a traceback, or in a message of several lines or many thousand letters.
FOUND = {
    "jsonl of lists": b'{"s\\ntences": ["a", "b"], "labels": [0, 1]}\n',
    "csv": b'"text\n,label",0\n1,2\n',
    "parquet": PARSERS["parquet"].valid[0].replace(b"text", b"\x9aext"),
    "corpus.jsonl": b'{"i\\nd": "d2", "text": "two"}\n',
    "ranked.jsonl": b'{"query\\nid": "q1", "corpus-ids": []}\n',
    "triplets.jsonl": b'{"anchor": "a", "posi\\ntive": "b"}\n',
    "variant that encodes by another variant.json": re.sub(
        rb'"dimensions": \d+', b'"dimensions": 9223372036854775808', read_variant("variant.json")
    ),
    "record Floor": b'{"T\\n": {}}',
    "record Scores": b'{"fp32": {"384": {"T": {"mai\\n_score": 1}}}}',
    "bundle.json": re.sub(rb'"order": \[[^]]*]', b'"order": "' + b"x" * 9000 + b'"', PARSERS["bundle.json"].valid[0]),
    "graph with weights beside it": read_graph().replace(b"Gather", b"G\nther"),
}
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udc7f\udd00-\udfff]")


def check(name: str, folder, examples: int) -> None:
    """Give a parser so many damaged files."""
    parser = PARSERS[name]
    doors = parser.open_door(folder)
    door = next(doors)
    for valid in parser.valid:
        if parser.reads_valid:
            door(valid)  # else damage would prove nothing
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=examples,
        deadline=DEADLINE,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(*parser.valid, structured=parser.structured))
    def reads_or_refuses(data: bytes) -> None:
        judge(parser, door, folder, data)

    reads_or_refuses()
    require_memory(before)
    next(doors, None)


def check_many(name: str, folder, examples: int) -> None:
    """Give a parser so many damaged files, the same ones in every run; print how many it read and refused."""
    parser, chance = PARSERS[name], Random(0)
    doors = parser.open_door(folder)
    door = next(doors)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, read = time.monotonic(), 0
    signal.signal(signal.SIGALRM, _raise_hang)
    for number in range(examples):
        data = damage(parser.valid, chance, structured=parser.structured)
        signal.alarm(round(DEADLINE.total_seconds()))
        try:
            read += judge(parser, door, folder, data)
        except BaseException as error:
            error.add_note(f"file {number}: {data[:2000]!r}")
            raise
        finally:
            signal.alarm(0)
    require_memory(before)
    next(doors, None)
    print(f"{name}: {examples} files, {read} read, {time.monotonic() - started:.0f} s")


def judge(parser: Parser, door: Door, folder: Path, data: bytes) -> bool:
    """Give a door one file; return whether it read it. A refusal must be a message of the documented form."""
    try:
        door(data)
    except FoundryError as error:
        message = str(error)
        assert message, "no message"
        assert len(message) < LONGEST
        assert not STEERING.search(message), "steers a terminal"
        assert parser.lists_faults or "\n" not in message, "more than one line"
        assert not parser.file or parser.file in message or str(folder) in message, "names no file"
    except parser.refusal:
        pass
    else:
        return True
    return False


def require_memory(before: int) -> None:
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY_MB * 1000, f"{grown / 1000:.0f} MB more memory"


def _raise_hang(*_: object) -> None:
    raise AssertionError(f"hangs: over {DEADLINE}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
def test_a_damaged_file_is_read_or_refused(tmp_path, name):
    check(name, tmp_path, round(SAMPLE * max(PARSERS[name].share, 0.25)))


@pytest.mark.parametrize("name", FOUND)
def test_what_fuzzing_found_is_refused(tmp_path, name):
    doors = PARSERS[name].open_door(tmp_path)
    assert not judge(PARSERS[name], next(doors), tmp_path, FOUND[name])
    next(doors, None)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
def test_a_hundred_thousand_damaged_files_are_read_or_refused(tmp_path, name):
    check_many(name, tmp_path, round(MANY * PARSERS[name].share))
