"""The service in this process: swaps that need a pause, and what waits meanwhile."""

import asyncio
import dataclasses

import pytest
from embed_foundry import Environment, manifest
from embed_foundry.serve.observer import Observer
from embed_foundry.serve.refusals import DEADLINE, RefusalError
from embed_foundry.serve.requests import EmbedRequest
from embed_foundry.serve.service import Service
from embed_foundry.serve.settings import Settings
from embed_foundry.serve.source import Watch

from support.served_releases import copy_release, fail_self_test, replace_folder

QUESTION = EmbedRequest(("a question",))


class Events(Observer):
    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append((event.name, event.message))


@pytest.fixture
def little_memory(monkeypatch):
    """Give this host so little memory that one release fits, but not two."""
    little = dataclasses.replace(Environment.detect(), memory_mb=150)
    monkeypatch.setattr(Environment, "detect", lambda: little)


def run(link, use, **settings):
    """Run a coroutine function with a service on a link to a release, and return its events."""
    events = Events()

    async def main():
        service = Service(Watch(link), Settings(poll_s=0.1, **settings), events)
        await service.start()
        try:
            await use(service)
        finally:
            await service.close()

    asyncio.run(main())
    return events.events


def point(link, release):
    work = link.with_name("next")
    work.symlink_to(release)
    work.replace(link)


async def ask_until(service, condition):
    """Ask without a pause until a condition holds of an answer, and return all answers."""
    answers = []
    while not answers or not condition(answers[-1]):
        answers.append(await service.embed(QUESTION))
        assert len(answers) < 100_000
    return answers


def test_where_two_releases_do_not_fit_requests_wait_for_the_swap(
    first_release, second_release, little_memory, tmp_path
):
    point(tmp_path / "link", first_release)
    digests = [manifest.read(release).digest for release in (first_release, second_release)]

    async def use(service):
        assert (await service.embed(QUESTION)).release == digests[0]
        point(tmp_path / "link", second_release)
        answers = await ask_until(service, lambda answer: answer.release == digests[1])
        assert {answer.release for answer in answers} == set(digests)

    (message,) = [message for name, message in run(tmp_path / "link", use) if name == "swapped"]
    assert "after a pause" in message


def test_a_release_that_fails_after_a_pause_gives_way_to_the_old_one(
    first_release, second_release, little_memory, tmp_path
):
    point(tmp_path / "link", first_release)
    bad = fail_self_test(copy_release(second_release, tmp_path / "bad"), "static")

    async def use(service):
        old = (await service.embed(QUESTION)).release
        point(tmp_path / "link", bad)
        await ask_until(service, lambda _: service.read_readiness().notes)
        assert (await service.embed(QUESTION)).release == old

    assert "swap_refused" in dict(run(tmp_path / "link", use))


def test_no_pause_where_the_old_release_could_not_come_back(first_release, second_release, little_memory, tmp_path):
    folder = copy_release(first_release, tmp_path / "release")

    async def use(service):
        old = (await service.embed(QUESTION)).release
        replace_folder(folder, second_release)
        await ask_until(service, lambda _: service.read_readiness().notes)
        assert (await service.embed(QUESTION)).release == old

    assert "the current one's files are gone" in dict(run(folder, use))["swap_refused"]


def test_another_space_is_told(first_release, other_space_release, tmp_path):
    point(tmp_path / "link", first_release)
    digest = manifest.read(other_space_release).digest

    async def use(service):
        await service.embed(QUESTION)
        point(tmp_path / "link", other_space_release)
        await ask_until(service, lambda answer: answer.release == digest)

    assert "in ANOTHER vector space" in dict(run(tmp_path / "link", use))["swapped"]


def test_a_request_that_waits_for_the_first_release_has_its_deadline(first_release, tmp_path):
    async def use(service):
        with pytest.raises(RefusalError) as refused:
            await service.embed(dataclasses.replace(QUESTION, deadline_s=0.0))
        assert refused.value.reason is DEADLINE
        assert (await service.embed(QUESTION)).variant == "static"

    run(first_release, use)
