"""The process: opens the release, listens, and ends in order."""

import socket
from pathlib import Path

import uvicorn

from ..bundle import Bundle
from ..errors import InputError
from .app import make_app
from .engine import Engine
from .service import Service
from .settings import Settings


def run(source: Path, settings: Settings) -> None:
    """Serve a release until SIGTERM or Ctrl-C.

    Raises:
        InputError: the port is taken, or the address is none of this host.
        FoundryError: the release does not verify; see `Bundle.load`.
    """
    listener = listen(settings)
    service = Service(Engine(Bundle.load(source), settings), settings)
    # Programs that start a service on port 0 read this line.
    print(f"serving {service.engine.bundle.name} on {describe(listener)}", flush=True)
    uvicorn.Server(uvicorn.Config(make_app(service), log_level="warning")).run([listener])


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens where the settings say; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"{settings.host}:{settings.port}: cannot listen there ({error.strerror}). Choose another --host or --port."
        ) from None


def describe(listener: socket.socket) -> str:
    """Return the address of a listening socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
