"""The composition root: every constructor call of the gateway, top to bottom, and its life from start to SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import uvicorn

from services.gateway.api.access import Directory, KeyRing, RateLimit, StreamLimit
from services.gateway.api.application import make_application
from services.gateway.api.parts import Parts
from services.gateway.api.stream import Wakeups
from services.gateway.service.health import Watch
from services.gateway.service.projector import TOPICS, Projector
from services.gateway.service.relay import Relay
from services.gateway.service.worker import BACK_OFF_S, Worker
from services.gateway.store.jobs import JobStore
from services.gateway.store.nodes import NodeStore
from services.gateway.store.readmodel import ReadModel
from services.gateway.store.schema import migrate
from services.gateway.store.tenants import TenantStore
from services.gateway.store.usage import UsageStore
from solyx.bus.port import Transient
from solyx.bus.probe import BrokerProbe
from solyx.database import is_transient, make_engine
from solyx.telemetry import get_logger
from solyx.topics import DEADLETTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from services.gateway.settings import GatewaySettings
    from solyx.bus.port import Bus
    from solyx.clock import Clock

log = get_logger()

GRACE_S = 5.0


class Gateway:
    """The gateway in one process. Made inside a running event loop."""

    def __init__(self, settings: GatewaySettings, bus: Bus, clock: Clock) -> None:
        self._settings, self._bus = settings, bus
        self.failure: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        url = settings.database_url

        self.engine = make_engine(url, pool_size=settings.database_pool)
        self.tenants = TenantStore(self.engine)
        self.relay = Relay(bus, settings, clock)
        self.projector = Projector(bus, settings)
        self.relay_worker = Worker(self.relay, url, self._on_failure)
        self.projector_worker = Worker(self.projector, url, self._on_failure)
        self.probe = BrokerProbe(bus)
        self.watch = Watch(
            settings=settings,
            engine=self.engine,
            probe=self.probe,
            relay=self.relay_worker,
            projector=(self.projector, self.projector_worker),
        )
        self.wakeups = Wakeups(url, settings.poll_s)
        self.parts = Parts(
            settings=settings,
            clock=clock,
            bus=bus,
            jobs=JobStore(self.engine),
            tenants=self.tenants,
            readmodel=ReadModel(self.engine),
            usage=UsageStore(self.engine),
            nodes=NodeStore(self.engine),
            keys=KeyRing(self.tenants, settings.key_cache_s),
            directory=Directory(self.tenants, settings.key_cache_s),
            limit=RateLimit(
                requests_per_s=settings.requests_per_s,
                jobs_per_s=settings.jobs_per_s,
                jobs_burst=settings.jobs_burst,
            ),
            streams=StreamLimit(settings.streams_per_key),
            wakeups=self.wakeups,
            watch=self.watch,
        )
        self.application = make_application(self.parts)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until a bug ends a worker (then ``failure`` is set)."""
        listening = _listen(self._settings.http_host, self._settings.http_port)
        server = _Server(_uvicorn_config(self.application))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._ended.set)
        log.info("listening", host=self._settings.http_host, port=listening.getsockname()[1])
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        background = [asyncio.create_task(self._begin()), asyncio.create_task(self.wakeups.listen())]
        for task in background:
            task.add_done_callback(self._on_background_end)
        ended = asyncio.create_task(self._ended.wait())
        await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        self.wakeups.close()
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        for task in (ended, *background):
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self.close()
        log.info("stopped")

    async def prepare(self) -> None:
        """Bring database and topics to this version; waits for both to be there."""
        await _until_there("database", lambda: migrate(self._settings.database_url))
        self.watch.migrated = True
        await _until_there("broker", lambda: asyncio.to_thread(self._bus.ensure_topics, (*TOPICS, DEADLETTERS)))

    def start_workers(self) -> None:
        """Relay, projector and the broker's probe."""
        self.probe.start()
        self.relay_worker.start()
        self.projector_worker.start()

    async def close(self) -> None:
        """Stop the workers after their batches, then let go of the database."""
        self.probe.stop()
        for worker in (self.relay_worker, self.projector_worker):
            worker.ask_to_stop()
        for worker in (self.relay_worker, self.projector_worker):
            await asyncio.to_thread(worker.join)
        await self.engine.dispose()

    async def _begin(self) -> None:
        await self.prepare()
        self.start_workers()
        while not (await self.watch.readiness()).ready:  # noqa: ASYNC110 - threads and the database change it
            await asyncio.sleep(0.02)
        log.info("ready")

    def _on_background_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("background_failed", error=repr(error))
            self._on_failure(error)

    def _on_failure(self, error: BaseException) -> None:
        self.failure = error
        self._loop.call_soon_threadsafe(self._ended.set)


async def _until_there(what: str, work: Callable[[], object]) -> None:
    """Repeat until it succeeds or fails for good."""
    after_s = BACK_OFF_S[0]
    while True:
        try:
            await work()  # pyright: ignore[reportGeneralTypeIssues]
        except Exception as error:
            if not isinstance(error, Transient) and not is_transient(error):
                raise
            log.warning("waiting", what=what, error=str(error), after_s=after_s)
            await asyncio.sleep(after_s)
            after_s = min(after_s * 2, BACK_OFF_S[1])
        else:
            return


class _Server(uvicorn.Server):
    """Leaves the signals to the gateway: uvicorn would raise them again at its end and the exit status would not be 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _uvicorn_config(application: object) -> uvicorn.Config:
    return uvicorn.Config(
        application,  # pyright: ignore[reportArgumentType]
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=int(GRACE_S),
        server_header=False,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is a free one.

    Raises:
        OSError: the port is taken; the message says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        cure = "stop who listens there, or set SOLYX_GATEWAY_HTTP_PORT to another port (0: a free one)"
        msg = f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; {cure}"
        raise OSError(error.errno, msg) from error
    listening.listen(1024)
    listening.setblocking(False)
    return listening
