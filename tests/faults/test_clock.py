"""A clock that jumps, or is wrong by years, changes no measurement, lock, retry or output."""

import email.utils
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from embed_foundry import manifest

from stages.common.sources.hub import Connection
from stages.common.sources.hub.retries import RetryingClient
from support import tiny_static
from support.local_server import LocalServer

# Python imports this module first, in the process itself and in those that it starts. Every reading of the wall clock
# is days before or after the one before it, as if somebody set it all the time.
JUMPING = """
import itertools, time
real, days = time.time, itertools.cycle((-3, 5, 0, -40))
time.time = lambda: real() + 86_400 * next(days)
time.time_ns = lambda: int(time.time() * 1e9)
"""
LATENCY = """
import sys, pathlib, time
from support import tiny_static
assert abs(time.time() - time.time()) > 1000, "the clock does not jump"
tiny_static.run_latency(pathlib.Path(sys.argv[1]), rounds=12, budget_s=2, cold_starts=1)
"""
TESTS = Path(__file__).parents[1]


def run_with_jumps(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run Python on a machine whose clock jumps."""
    (folder / "jumps").mkdir()
    (folder / "jumps" / "sitecustomize.py").write_text(JUMPING, encoding="utf-8")
    paths = os.pathsep.join(map(str, (folder / "jumps", TESTS, TESTS.parent)))
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_latency_is_measured_by_a_clock_that_nobody_sets(tmp_path):
    build = tiny_static.write_build(tmp_path)
    result = run_with_jumps(tmp_path, "-c", LATENCY, build)
    assert result.returncode == 0, result.stderr
    report = json.loads((build / "latency" / "latency.json").read_text(encoding="utf-8"))
    for name in ("base", "twin"):
        variant = report["variants"][name]
        assert 0 < variant["cold_start_s"]["median"] < 60
        assert all(0 < length["median_ms"] < 1000 for length in variant["lengths"].values())
        assert 0.2 < variant["batch"]["speedup"]["median"] < 5
    assert 0 <= sum(series["seconds"] for series in report["series"]) < 60
    manifest.verify(build / "latency")


def test_an_output_is_written_and_locked_whatever_the_time_is(tmp_path):
    """The same bytes, and no temporary file taken for a fresh or a stale one."""
    writer = TESTS / "faults" / "writer.py"
    out = tmp_path / "out"
    result = run_with_jumps(tmp_path, writer, out, 10)
    assert result.returncode == 0, result.stderr
    before = (out / manifest.NAME).read_bytes()
    subprocess.run([sys.executable, writer, out, "10"], check=True)
    assert (out / manifest.NAME).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "jumps", "out"]


def test_a_date_to_retry_after_is_read_by_the_servers_clock():
    """The server's clock is a year ahead of ours; one second after its answer, it takes requests again."""
    ahead = time.time() + 365 * 86_400
    answered: list[float] = []

    def answer(request):
        answered.append(time.monotonic())
        busy = len(answered) == 1
        request.send_response_only(503 if busy else 200)
        request.send_header("Date", email.utils.formatdate(ahead, usegmt=True))
        request.send_header("Content-Length", "0")
        if busy:
            request.send_header("Retry-After", email.utils.formatdate(ahead + 1, usegmt=True))
        request.end_headers()

    with LocalServer(answer) as server, RetryingClient(Connection(wait_s=0.01)) as client:
        assert client.get(server.url).status_code == 200
    assert 1 <= answered[1] - answered[0] < 20
