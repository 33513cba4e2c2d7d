"""Keys and concurrency: who is admitted, and in which words others are refused."""

import asyncio
import os

import httpx2
import pytest
from embed_foundry import InputError
from embed_foundry.serve.admission import Admission, Keys
from embed_foundry.serve.settings import Settings
from fastapi import Response


class Door:
    """An application that answers when it is let."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self, scope, receive, send) -> None:
        await self.free.wait()
        await Response("ok")(scope, receive, send)


def ask(settings: Settings, use, door: Door | None = None, client=("192.0.2.7", 1)):
    async def main():
        transport = httpx2.ASGITransport(app=Admission(door or Door(), settings), client=client)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as session:
            return await use(session)

    return asyncio.run(main())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/api/embed", "/embed", "/v2/embed", "/api/v1/embed", "/openapi.json"]
)
def test_without_a_key_every_dialect_refuses_in_its_own_words(path):
    async def use(session):
        answers = [await session.post(path, headers=headers) for headers in ({}, bearer("other"), bearer(""))]
        assert [answer.status_code for answer in answers] == [401, 401, 401]
        assert all(answer.headers["WWW-Authenticate"] == "Bearer" for answer in answers)
        assert "error" in answers[0].text or "message" in answers[0].text
        for key in ("one", "two"):
            assert (await session.post(path, headers=bearer(key))).status_code == 200

    ask(Settings(keys=frozenset({"one", "two"})), use)


def test_probes_and_the_page_are_open():
    async def use(session):
        for path in ("/livez", "/readyz", "/metrics", "/"):
            assert (await session.get(path)).status_code == 200

    ask(Settings(keys=frozenset({"one"})), use)


def test_keys_rotate_without_a_restart(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    file.write_text("# keys of the search team\nold\n")
    keys = Keys(Settings(key_file=file))
    assert keys.accept("old")
    assert not keys.accept("# keys of the search team")
    file.write_text("new\n")
    os.utime(file, ns=(1, 1))
    monkeypatch.setattr("embed_foundry.serve.admission.LOOK_S", 0)
    assert keys.accept("new")
    assert not keys.accept("old")
    file.write_text("")  # an editor truncates it first
    os.utime(file, ns=(2, 2))
    assert keys.accept("new")


def test_a_key_file_without_keys_is_refused(tmp_path):
    for content in (b"", b"# none\n", b"\xff\xfe"):
        (tmp_path / "keys").write_bytes(content)
        with pytest.raises(InputError, match="--key-file"):
            Keys(Settings(key_file=tmp_path / "keys"))


def test_one_client_has_only_so_many_requests_at_once():
    async def use(session):
        door.free.clear()
        running = [asyncio.create_task(session.post("/embed")) for _ in range(2)]
        await asyncio.sleep(0.05)
        refused = await session.post("/embed")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        door.free.set()
        assert [(await task).status_code for task in running] == [200, 200]
        assert (await session.post("/embed")).status_code == 200

    door = Door()
    ask(Settings(max_client_requests=2), use, door)


@pytest.mark.parametrize(("proxies", "status"), [(("192.0.2.0/24",), 200), ((), 429), (("198.51.100.0/24",), 429)])
def test_a_proxys_header_names_the_client_only_from_known_proxies(proxies, status):
    async def use(session):
        door.free.clear()
        running = asyncio.create_task(session.post("/embed", headers={"X-Forwarded-For": "203.0.113.1"}))
        await asyncio.sleep(0.05)
        other = asyncio.create_task(session.post("/embed", headers={"X-Forwarded-For": "203.0.113.2"}))
        await asyncio.sleep(0.05)
        door.free.set()
        assert ((await other).status_code, (await running).status_code) == (status, 200)

    door = Door()
    ask(Settings(max_client_requests=1, forwarded_by=proxies), use, door)
