"""Several processes on one port."""

import re
import signal

import psutil
import pytest
from embed_foundry import manifest

from support.served import serve
from support.served_releases import copy_release, replace_folder, wait_for
from support.traffic import ask


@pytest.fixture
def pair(first_release, tmp_path):
    """Return a service of two processes on a release that a test may replace."""
    with serve(copy_release(first_release, tmp_path / "release"), tmp_path, "--processes", "2") as service:
        wait_for(lambda: answer_all(service, 4), 60)
        yield service


def list_workers(service) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


def answer_all(service, count: int) -> bool:
    """Whether so many requests in a row, each over a new connection, are answered."""
    return all(ask(service.url).status == 200 for _ in range(count))


def test_a_worker_that_is_killed_is_replaced_while_the_others_answer(pair):
    first, second = list_workers(pair)
    first.kill()
    for _ in range(50):
        assert ask(pair.url).status == 200
    wait_for(lambda: len({worker.pid for worker in list_workers(pair)} - {first.pid, second.pid}) == 1)
    second.kill()  # so that the new one must answer
    assert ask(pair.url).status == 200
    assert f"worker {first.pid} ended by SIGKILL; another one is started" in pair.log.read_text()


def test_every_process_takes_a_new_release(pair, second_release, tmp_path):
    replace_folder(tmp_path / "release", second_release)
    digest = manifest.read(second_release).digest
    wait_for(lambda: {ask(pair.url).release for _ in range(30)} == {digest})


def test_workers_that_die_again_and_again_end_the_service(pair):
    def kill() -> bool:
        for worker in list_workers(pair):
            worker.kill()
        return pair.process.poll() is not None

    wait_for(kill, 60)
    assert pair.process.returncode == 1
    assert re.search(
        r"error: 5 workers died within 60 s, the last one \d+ s after its start, by SIGKILL\. Look at what it wrote",
        pair.log.read_text(),
    )


def test_workers_end_with_their_supervisor_however_it_ends(pair):
    workers = list_workers(pair)
    pair.process.kill()
    assert psutil.wait_procs(workers, timeout=20)[1] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_in_order(pair, number):
    workers = list_workers(pair)
    pair.process.send_signal(number)
    assert pair.process.wait(timeout=20) == 0
    assert psutil.wait_procs(workers, timeout=1)[1] == []


def test_counts_are_those_of_all_processes(pair):
    before = count(pair)
    for _ in range(20):
        ask(pair.url)
    assert count(pair) == before + 20


def count(service) -> float:
    text = service.client.get("/metrics").text
    return float(re.search(r'te_request_success_total\{door="openai"\} ([\d.]+)', text)[1])
