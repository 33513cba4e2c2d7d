"""A release served by the console script in a process of its own, as on a host."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

CONSOLE = Path(sys.executable).with_name("embed-foundry")


@dataclass(frozen=True)
class Served:
    """A running service.

    Attributes:
        url: where it listens.
        process: the console script's.
        log: the file of its standard error.
        client: sends requests to it, over connections that stay open.
    """

    url: str
    process: "subprocess.Popen[str]"
    log: Path
    client: httpx2.Client


@contextmanager
def serve(source: Path | str | None, folder: Path, *options: str) -> Iterator[Served]:
    """Start `embed-foundry serve SOURCE` on a free port, and stop it at the end of the block.

    Args:
        source: what to serve; None where `options` name a channel.
        folder: an existing folder for its log.
        options: further ones.
    """
    log = folder / "serve.log"
    command = [CONSOLE, "serve", *([source] if source else []), "--port", "0", *options]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout
        line = process.stdout.readline()
        assert "http://" in line, f"exit code {process.wait(timeout=10)}: {log.read_text()}"
        url = line.split()[-1]
        try:
            with httpx2.Client(base_url=url, timeout=60, event_hooks={"response": [show_refusal]}) as client:
                yield Served(url, process, log, client)
        finally:
            process.terminate()
            process.wait(timeout=60)


def show_refusal(response: httpx2.Response) -> None:
    """Print what was not answered, so that pytest shows it beside a test that did not expect it."""
    if response.status_code >= 400:
        print(response.request.method, response.url, response.status_code, response.read()[:500])


@pytest.fixture(scope="session")
def service(released, tmp_path_factory) -> Iterator[Served]:
    """Return a running service of onnx_int8, onnx_fp32 and static, for tests that do not change it."""
    with serve(released.folder, tmp_path_factory.mktemp("service")) as running:
        yield running
