"""Everything the forecaster is made of, put together top to bottom; runs until it is asked to stop or a part of it died.

Threads: the windows' worker (faust, with an event loop of its own), the shards of the forecast role, the board, the fitting
queue; the main thread serves HTTP and watches over the others. When one dies, the process ends with status 1: whoever runs
it starts it anew, and everything is recovered from the topics.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from aiohttp import web

from services.forecaster.api import make_api
from services.forecaster.service.board import Board
from services.forecaster.service.fitting import Fitting
from services.forecaster.service.forecasts import SERVICE, forecasting_role
from services.forecaster.service.progress import Progress
from services.forecaster.service.table import ensure_table
from services.forecaster.service.windows import WindowWorker
from solyx.bus.kafka import KafkaBus
from solyx.bus.port import Transient
from solyx.bus.runner import run_roles
from solyx.telemetry import configure, get_logger
from solyx.topics import ANOMALIES, DEADLETTERS, ENERGY, FEATURES, FORECASTS, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.forecaster.settings import ForecasterSettings

log = get_logger()

_WATCH_S = 0.2
_STOP_S = 4.7
"""A stop that takes longer is a hang; what was not committed by then is read again after the next start."""


async def run(settings: ForecasterSettings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status: 0 after a stop that was asked for, 1 when a part died."""
    configure(SERVICE, settings)
    clock = settings.clock()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    async with AsyncExitStack() as stack:
        bus = stack.enter_context(
            KafkaBus(settings.kafka_bootstrap_servers, client_name=f"forecaster-{settings.replica}")
        )
        if not await _topics(bus, settings, asked):
            return 0
        worker = WindowWorker(settings, clock)
        fitting = Fitting()
        board = Board(bus)
        progress = Progress(settings, worker)
        (runner,) = run_roles([forecasting_role(settings.policy(), fitting)], settings, bus, clock)
        for part in (worker, fitting, board, progress):
            part.start()

        def ready() -> tuple[bool, dict[str, object]]:
            details = {**runner.details(), "metrics_partitions": worker.partitions(), "metrics_lag": progress.lag}
            return runner.ready() and worker.ready() and board.caught_up, details

        http = web.AppRunner(make_api(board, ready), access_log=None)
        stack.push_async_callback(http.cleanup)
        await http.setup()
        site = web.TCPSite(http, settings.http_host, settings.http_port)
        await site.start()
        log.info("listening", host=settings.http_host, port=http.addresses[0][1])
        try:
            failure = await _watch(asked, ready, lambda: worker.failed or runner.failed or progress.failed)
        finally:
            log.info("stopping")
            await _stop_all([runner.stop, worker.stop, fitting.stop, board.stop, progress.stop])
    if failure is not None:
        log.error("part_died", error=repr(failure))
        return 1
    log.info("stopped")
    return 0


async def _topics(bus: KafkaBus, settings: ForecasterSettings, asked: asyncio.Event) -> bool:
    """Topics first: faust never notices one that appears later. False: asked to stop while the broker was away."""
    while not asked.is_set():
        try:
            await asyncio.to_thread(bus.ensure_topics, [METRICS, ENERGY, FEATURES, FORECASTS, ANOMALIES, DEADLETTERS])
            await asyncio.to_thread(ensure_table, settings)
        except Transient as error:
            log.warning("broker_unreachable", error=str(error))
            await asyncio.wait([asyncio.ensure_future(asked.wait())], timeout=error.after_s)
        else:
            return True
    return False


async def _watch(
    asked: asyncio.Event,
    ready: Callable[[], tuple[bool, dict[str, object]]],
    failed: Callable[[], BaseException | None],
) -> BaseException | None:
    """Until a stop is asked for (None) or a part has died (why)."""
    said_ready = False
    while not asked.is_set():
        failure = failed()
        if failure is not None:
            return failure
        if not said_ready and ready()[0]:
            said_ready = True
            log.info("ready", pid=os.getpid())
        try:
            await asyncio.wait_for(asked.wait(), _WATCH_S)
        except TimeoutError:
            continue
    return None


async def _stop_all(stops: list[Callable[[], None]]) -> None:
    """All at the same time, on threads that a hang cannot make outlive the process."""
    loop = asyncio.get_running_loop()

    def begin(stop: Callable[[], None]) -> asyncio.Future[None]:
        stopped: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            try:
                stop()
            finally:
                loop.call_soon_threadsafe(stopped.set_result, None)

        threading.Thread(target=end, daemon=True).start()
        return stopped

    _, hanging = await asyncio.wait([begin(stop) for stop in stops], timeout=_STOP_S)
    if hanging:
        log.error("parts_did_not_stop", parts=len(hanging), after_s=_STOP_S)
