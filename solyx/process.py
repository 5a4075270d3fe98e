"""A service whose work is one role: its process, from the settings to the exit code. Every constructor call stands here once."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from solyx.bus.kafka import KafkaBus
from solyx.bus.runner import run_roles
from solyx.collection import settle
from solyx.telemetry import OpsServer, configure, flush, get_logger
from solyx.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from solyx.bus.runner import Role, ServiceRunner
    from solyx.clock import Clock
    from solyx.settings import Settings

log = get_logger()

WATCH_S = 0.05
"""How often the main thread looks whether the shards are ready, or have failed."""


def run_role(service: str, settings: Settings, make_role: Callable[[Clock, ExitStack], Role]) -> int:
    """Work until SIGTERM or SIGINT; the exit code: 0 stopped, 1 a bug, a fenced replica, or a process that stands still (start it anew).

    ``make_role`` may enter what the role needs into the stack: it is closed after the shards are.
    """
    configure(service, settings)
    settle()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with ExitStack() as stack:
        stack.callback(flush)
        clock = settings.clock()
        role = make_role(clock, stack)
        bus = stack.enter_context(
            KafkaBus(
                settings.kafka_bootstrap_servers,
                client_name=f"{service}-{settings.replica}",
                transaction_timeout_s=settings.transaction_timeout_s,
            )
        )
        (runner,) = run_roles([role], settings, bus, clock)
        stack.callback(runner.stop)
        watchdog = Watchdog(runner.stalled_s)
        stack.callback(watchdog.close)
        ops = OpsServer(settings.http_host, settings.http_port, lambda: (runner.ready(), runner.details()))
        ops.start()
        stack.callback(ops.stop)
        log.info("listening", host=settings.http_host, port=ops.port)
        return _watch(runner, watchdog, stopping)


def _watch(runner: ServiceRunner, watchdog: Watchdog, stopping: threading.Event) -> int:
    """Until it is to stop (0) or has stopped by itself (1)."""
    told = False
    while not stopping.wait(WATCH_S):
        watchdog.look()
        if not told and runner.ready():
            told = True
            log.info("ready")
        if runner.wait(0):
            return 1 if runner.failed is not None else 0
    return 0
