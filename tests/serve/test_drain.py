"""How the process ends: in order at the first signal, at once at the second; and where it cannot begin."""

import signal
import socket
import subprocess
import threading
import time

import httpx2
import pytest

from support.served import CONSOLE, serve
from support.served_releases import read_readiness, wait_for

# Some seconds of work for the slowest variant here, and far more than any test waits.
LONG, ENDLESS = ["many words of one text " * 60] * 40, ["many words of one text " * 60] * 2000


class LongRequest(threading.Thread):
    """A request that runs while a test does something else; `answer` is there once it was joined."""

    def __init__(self, url: str, texts: list[str]) -> None:
        super().__init__()
        self.url, self.texts = url, texts
        self.start()
        wait_for(lambda: read_readiness(url)[1]["running"] > 0)

    def run(self) -> None:
        body = {"input": self.texts, "model": "onnx_fp32"}
        self.answer = httpx2.post(f"{self.url}/v1/embeddings", json=body, timeout=120)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_request_is_answered_before_the_process_ends(released, tmp_path, number):
    with serve(released.folder, tmp_path) as service:
        request = LongRequest(service.url, LONG)
        service.process.send_signal(number)
        wait_for(lambda: read_readiness(service.url)[0] == 503)
        assert read_readiness(service.url)[1]["reason"] == "ending"
        refused = httpx2.post(f"{service.url}/v1/embeddings", json={"input": "a"})
        assert refused.status_code == 503
        assert refused.headers["X-Reason"] == "unavailable"
        assert httpx2.get(f"{service.url}/livez").status_code == 200
        request.join()
        assert request.answer.status_code == 200
        assert len(request.answer.json()["data"]) == len(LONG)
        assert service.process.wait(timeout=20) == 0


def test_what_outlasts_the_drain_is_refused(released, tmp_path):
    with serve(released.folder, tmp_path, "--drain-s", "1") as service:
        request = LongRequest(service.url, ENDLESS)
        began = time.monotonic()
        service.process.terminate()
        request.join()
        assert request.answer.status_code == 503
        assert request.answer.headers["X-Reason"] == "unavailable"
        assert service.process.wait(timeout=20) == 0
        assert time.monotonic() - began < 15


def test_a_second_signal_ends_it_at_once(released, tmp_path):
    with serve(released.folder, tmp_path) as service:
        request = LongRequest(service.url, ENDLESS)
        service.process.terminate()
        wait_for(lambda: read_readiness(service.url)[0] == 503)
        request.run = None  # its connection breaks
        service.process.terminate()
        assert service.process.wait(timeout=5) == 128 + signal.SIGTERM


def test_a_port_that_is_taken_is_refused(released, console):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = console("serve", released.folder, "--port", port)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: 127.0.0.1:{port}: cannot listen there (Address already in use). Choose another --host or --port.\n"
    )


SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_systemd_passes_a_socket_and_is_told(first_release, tmp_path):
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    notified.settimeout(30)
    with socket.create_server(("127.0.0.1", 0)) as listener, notified:
        listener.set_inheritable(True)
        process = subprocess.Popen(
            ["python3", "-c", SYSTEMD, str(listener.fileno()), CONSOLE, "serve", first_release],
            pass_fds=[listener.fileno()],
            env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            assert notified.recv(100) == b"READY=1"
            assert httpx2.post(f"{url}/v1/embeddings", json={"input": "a"}, timeout=30).status_code == 200
        finally:
            process.terminate()
        assert notified.recv(100) == b"STOPPING=1"
        assert process.wait(timeout=20) == 0
