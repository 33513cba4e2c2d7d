"""The process: opens the source, listens, and ends in order."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

from ..cpus import available_cpus
from ..errors import InputError, IntegrityError
from . import health, page, systemd
from .app import make_app
from .cache import open_cache
from .feeder import Feeder
from .http_limits import BoundedHttp
from .log import EventLog, Observers
from .metrics import Metrics
from .opening import open_source
from .service import Service
from .settings import Settings
from .source import Source, Supply, UnchangedBundle, Watch

if TYPE_CHECKING:
    from .tracing import Tracing

# Seconds that answers get to reach their clients once every request has ended.
LINGER_S = 5


def run(source: Source, settings: Settings) -> None:
    """Serve a source until SIGTERM or Ctrl-C.

    Raises:
        InputError: the port is taken, or the address is none of this host; see `open_source`.
        IntegrityError: the release does not verify; see `Bundle.load`.
        RetryableError: no release was ever fetched here, and the store cannot be reached.
        FoundryError: processes die again and again.
    """
    listener = systemd.take_socket() or listen(settings)
    watch, supply = open_source(source, settings)
    bundle = _look_first(watch, supply)
    # Programs that start a service on port 0 read this line.
    print(f"serving {bundle.name if bundle else source.path or settings.channel} on {describe(listener)}", flush=True)
    if supply:
        Feeder(supply, settings.poll_s).start()
    if settings.processes > 1:
        from . import supervisor

        watch.forget()  # each worker looks for itself
        supervisor.supervise(listener, supervisor.Job(watch, settings))
    else:
        serve(listener, watch, settings, bundle)


def _look_first(watch: Watch, supply: Supply | None) -> UnchangedBundle | None:
    """Return the first release.

    Raises:
        FoundryError: it cannot be served, so that whoever starts the service learns it at once.
    """
    if not supply:
        return watch.look()
    if not (supply.remote and watch.current.exists()):
        supply.refresh()
    try:
        return watch.look()
    except IntegrityError:  # a disk or a cleaner damaged what an earlier process unpacked
        supply.refresh(again=True)
        return watch.look()


def serve(
    listener: socket.socket, watch: Watch, settings: Settings, bundle: UnchangedBundle | None = None, parent: int = -1
) -> None:
    """Serve in this process until it is told to stop.

    Args:
        listener: accepts the connections.
        watch: finds releases.
        settings: see `Settings`.
        bundle: the first release, already verified.
        parent: a file descriptor that ends when the parent process does; -1 without one.
    """
    limit_threads(settings)
    metrics = Metrics()
    tracing = _open_tracing() if settings.tracing else None
    observer = Observers([metrics, EventLog(requests=settings.access_log), *([tracing] if tracing else [])])
    cache = open_cache(settings, observer)
    service = Service(watch, settings, observer, cache)
    app = make_app(service, [health.router(service), metrics.router(), page.router()])
    if tracing:
        tracing.add_to(app)
    config = uvicorn.Config(app, http=BoundedHttp, log_level="warning", timeout_graceful_shutdown=LINGER_S)
    try:
        _Server(config, service, bundle, parent).run([listener])
    finally:
        if cache:
            cache.close()
        if tracing:
            tracing.close()


def _open_tracing() -> "Tracing":
    try:
        from .tracing import Tracing
    except ImportError as error:
        raise InputError(
            f"--tracing needs a library ({error}). Next: pip install 'embed-foundry[serve,otel]'"
        ) from None
    return Tracing()


def limit_threads(settings: Settings) -> None:
    """Give the tokenizers' pool as many threads as the encoders have; by itself it takes one a CPU of the host."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(settings.threads or available_cpus()))


class _Server(uvicorn.Server):
    """Ends in order: first not ready, then without requests, then without connections.

    uvicorn closes the listener at once, so that no probe could read why; and ends by the signal, not with code 0.
    """

    def __init__(self, config: uvicorn.Config, service: Service, bundle: UnchangedBundle | None, parent: int) -> None:
        super().__init__(config)
        self._service, self._bundle, self._parent = service, bundle, parent
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._service.start(self._bundle)
        self._bundle = None
        await super().startup(sockets)
        systemd.notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if not await self._service.close():
            sys.stdout.flush()
            os._exit(0)  # a model's call cannot be stopped, and its thread would keep the process

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, 128 + number)
        if self._parent >= 0:
            loop.add_reader(self._parent, self._end_with_parent)
        yield

    def _end_with_parent(self) -> None:
        asyncio.get_running_loop().remove_reader(self._parent)
        if not self._ending:
            self._end(0)

    def _end(self, code: int) -> None:
        if self._ending:  # told twice
            os._exit(code)
        self._ending = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        systemd.notify("STOPPING=1")
        await self._service.drain(self._service.settings.drain_s)
        self.should_exit = True


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens where the settings say; port 0 takes any free one.

    Raises:
        InputError: the port is taken, or the address is none of this host.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)  # Python puts the address into strerror too
        reason = os.strerror(number) if number and number > 0 else str(error)
        raise InputError(
            f"{settings.host}:{settings.port}: cannot listen there ({reason}). Choose another --host or --port."
        ) from None


def describe(listener: socket.socket) -> str:
    """Return the address of a listening socket as a URL."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
