"""The SDN's composition root: everything is constructed here, top to bottom, and closed in reverse."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from services.sdn.service import role
from solyx.bus.kafka import KafkaBus
from solyx.bus.runner import run_roles
from solyx.telemetry import OpsServer, configure, get_logger

if TYPE_CHECKING:
    from services.sdn.settings import SdnSettings
    from solyx.bus.runner import ServiceRunner

log = get_logger()

WATCH_S = 0.05
"""How often the main thread looks whether the shard is ready, or has failed."""


def run(settings: SdnSettings) -> int:
    """Work until SIGTERM or SIGINT; the exit code."""
    configure("sdn", settings)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with ExitStack() as stack:
        clock = settings.clock()
        bus = stack.enter_context(
            KafkaBus(
                settings.kafka_bootstrap_servers,
                client_name=f"sdn-{settings.replica}",
                transaction_timeout_s=settings.transaction_timeout_s,
            )
        )
        (runner,) = run_roles([role(settings.policy(speed=clock.speed))], settings, bus, clock)
        stack.callback(runner.stop)
        ops = OpsServer(settings.http_host, settings.http_port, lambda: (runner.ready(), runner.details()))
        ops.start()
        stack.callback(ops.stop)
        log.info("listening", host=settings.http_host, port=ops.port)
        return _watch(runner, stopping)


def _watch(runner: ServiceRunner, stopping: threading.Event) -> int:
    """Until it is to stop (0) or a bug has stopped it (1)."""
    told = False
    while not stopping.wait(WATCH_S):
        if not told and runner.ready():
            told = True
            log.info("ready")
        if runner.wait(0):
            return 1 if runner.failed is not None else 0
    return 0
