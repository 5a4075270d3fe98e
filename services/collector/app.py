"""The collector's composition root: everything is constructed here, top to bottom, and closed in reverse."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from services.collector.api import Api
from services.collector.config import read_config
from services.collector.core.inventory import observed
from services.collector.model import Located
from services.collector.service.energy import EnergySource
from services.collector.service.feed import Feeds
from services.collector.service.grid import GridSource
from services.collector.service.http import open_session
from services.collector.service.openadr import OpenAdrSource
from services.collector.service.outlet import Outlet
from services.collector.service.prometheus import poll
from services.collector.service.replay import make_replay, play
from solyx import scenario
from solyx.bus.kafka import KafkaBus
from solyx.bus.port import Transient
from solyx.bus.probe import BrokerProbe
from solyx.settings import SettingsError
from solyx.telemetry import configure, get_logger
from solyx.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from services.collector.settings import CollectorSettings
    from solyx.bus.port import Bus
    from solyx.scenario import Scenario

log = get_logger()

STOP_S = 10.0
"""Longest wait, when stopping, for what is under way to become safe. Whoever sent the rest was not told that it is."""


def run(settings: CollectorSettings) -> int:
    """Work until SIGTERM or SIGINT; the exit code.

    Raises:
        SettingsError, ConfigError, ScenarioError: something is set wrong.
    """
    settings.check()
    configure("collector", settings)
    located = read_config(Path(settings.config), os.environ) if settings.config else Located()
    replayed = scenario.load(settings.scenario) if settings.scenario else None
    with KafkaBus(settings.kafka_bootstrap_servers, client_name=f"collector-{settings.replica}") as bus:
        return asyncio.run(_until_signalled(settings, located, replayed, bus))


async def _until_signalled(settings: CollectorSettings, located: Located, replayed: Scenario | None, bus: Bus) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        await collect(settings, located, replayed, bus, stopping)
    except ExceptionGroup:
        log.exception("collector_failed")
        return 1
    return 0


async def collect(
    settings: CollectorSettings,
    located: Located,
    replayed: Scenario | None,
    bus: Bus,
    stopping: asyncio.Event,
    listening: Callable[[int], None] = lambda _: None,
) -> None:
    """Collect until ``stopping`` is set. ``listening`` is told the port."""
    clock, collection = settings.clock(), located.collection
    async with AsyncExitStack() as stack:
        outlet = Outlet(
            lambda: bus.publisher(name=f"collector-{settings.replica}"), clock, capacity_bytes=settings.buffer_bytes
        )
        stack.push_async_callback(outlet.close)
        feeds = Feeds(outlet, clock, max_backoff_s=collection.max_backoff_s)
        session = await stack.enter_async_context(open_session())
        replay = make_replay(replayed, settings) if replayed else None
        probe = BrokerProbe(bus)
        probe.start()
        stack.callback(probe.stop)
        delivering, started = asyncio.Event(), asyncio.Event()

        def ready() -> tuple[bool, dict[str, object]]:
            is_started = delivering.is_set() and (started.is_set() or not replay)
            details: dict[str, object] = {
                "feeds": feeds.states(),
                "buffered_bytes": outlet.buffered_bytes,
                "broker": outlet.last_error or probe.status,
            }
            return is_started and not outlet.last_error and probe.answers, details

        async def deliver() -> None:
            await _ensure_topics(bus)
            delivering.set()
            await outlet.run()

        async def announce() -> None:
            await delivering.wait()
            if replay:
                await started.wait()
            log.info("ready")

        sites = {site.name for site in collection.sites} | (
            {site.name for site in replayed.sites} if replayed else set()
        )
        api = Api(outlet, clock, settings, remote_write=collection.remote_write, sites=sites, ready=ready)
        server, port = await _listen(api, settings)
        stack.push_async_callback(server.cleanup)
        sources: list[Coroutine[None, None, None]] = [announce()]
        if collection.sites:
            sources.append(outlet.publish([observed(site, clock.now()) for site in collection.sites]))
        if replay:
            rounds_per_s = settings.replay_rounds_per_s
            sources.append(play(replay, outlet, clock, rounds_per_s=rounds_per_s, started=started))
        sources += [poll(one, feeds, session, located.directory) for one in collection.prometheus]
        sources += [feeds.run(EnergySource(one, session, located.directory)) for one in collection.energy]
        sources += [feeds.run(GridSource(one, session, located.directory)) for one in collection.grid]
        for source in [OpenAdrSource(one, session, located.directory, bus) for one in collection.openadr]:
            sources += [
                _after(delivering, feeds.run(source)),
                *([_after(delivering, source.report_back())] if source.reports else []),
            ]
        async with asyncio.TaskGroup() as tasks:
            delivery = tasks.create_task(deliver())
            reading = [tasks.create_task(source) for source in sources]
            listening(port)
            await stopping.wait()
            log.info("stopping", buffered_bytes=outlet.buffered_bytes)
            for source in reading:
                source.cancel()
            await server.cleanup()
            if delivering.is_set():  # else there is no broker, and nothing will become safe
                await _drain(outlet)
            delivery.cancel()


async def _listen(api: Api, settings: CollectorSettings) -> tuple[web.AppRunner, int]:
    """Serve the port.

    Raises:
        SettingsError: it is taken, or not ours to take.
    """
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=STOP_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.http_host, settings.http_port).start()
    except OSError as error:
        await runner.cleanup()
        place = f"{settings.http_host}:{settings.http_port}"
        msg = f"SOLYX_COLLECTOR_HTTP_PORT: {place} cannot be listened at ({error.strerror}); choose another port, or 0"
        raise SettingsError(msg) from error
    port = int(runner.addresses[0][1])
    log.info("listening", host=settings.http_host, port=port)
    return runner, port


async def _ensure_topics(bus: Bus) -> None:
    while True:
        try:
            return await asyncio.to_thread(bus.ensure_topics, TOPICS)
        except Transient as error:
            log.warning("broker_unreachable", error=str(error))
            await asyncio.sleep(error.after_s)


async def _after(happened: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Begin once it has happened."""
    try:
        await happened.wait()
    except asyncio.CancelledError:
        work.close()
        raise
    await work


async def _drain(outlet: Outlet) -> None:
    try:
        await asyncio.wait_for(outlet.drained(), STOP_S)
    except TimeoutError:
        log.warning("stopped_before_safe", buffered_bytes=outlet.buffered_bytes, error=outlet.last_error)
