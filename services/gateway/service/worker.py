"""A thread with an event loop and a database connection of its own, that lives on through the loss of broker or database.

Relay and projector each are one: at any time one replica of the gateway leads each of them, by an advisory lock that
belongs to the very connection it works on. So whoever loses the connection has lost the lead with it, and cannot write.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Literal, Protocol

from prometheus_client import Counter

from solyx.bus.port import Transient
from solyx.database import connect, is_transient
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

log = get_logger()

BACK_OFF_S = (0.1, 5.0)
"""First and longest pause before another attempt; each is twice the one before."""
LEAD_POLL_S = 0.5
JOIN_TIMEOUT_S = 20.0

RETRIES = Counter("solyx_gateway_worker_retries_total", "Lives of a worker that broker or database ended", ["worker"])

WorkerState = Literal["starting", "standby", "catching_up", "leading", "retrying", "stopped", "failed"]


class Duty(Protocol):
    """What a worker does while it leads."""

    name: str
    lock: int

    async def lead(self, connection: asyncpg.Connection, worker: Worker) -> None:
        """Work until ``worker.stopping``. Raises what ends this life; the worker decides whether another begins."""
        ...


class Worker:
    """The thread of one duty."""

    def __init__(self, duty: Duty, database_url: str, on_failure: Callable[[BaseException], None]) -> None:
        """``on_failure`` hears of a bug: the process must leave, and go on from the last commit when it is started anew."""
        self._duty, self._url, self._on_failure = duty, database_url, on_failure
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=f"gateway-{duty.name}")
        self.state: WorkerState = "starting"
        self.trouble = ""  # the latest loss, while retrying

    @property
    def stopping(self) -> bool:
        """Whether this is to end after the batch at hand."""
        return self._stopping.is_set()

    @property
    def description(self) -> str:
        """State, with the reason while it retries."""
        return f"{self.state}: {self.trouble}" if self.state == "retrying" else self.state

    def start(self) -> None:
        """Work until ``stop``."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Stop after the batch at hand."""
        self._stopping.set()
        self.wake()

    def join(self) -> None:
        """Wait for the end."""
        if self._thread.is_alive():
            self._thread.join(JOIN_TIMEOUT_S)

    def wake(self) -> None:
        """End the present pause. From any thread."""
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None and not loop.is_closed():
            loop.call_soon_threadsafe(wake.set)

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the next ``wake``, or not at all when one came since the last pause."""
        assert self._wake is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    def _run(self) -> None:
        try:
            asyncio.run(self._live_on())
        except BaseException as error:
            self.state, self.trouble = "failed", repr(error)
            log.exception("worker_failed", worker=self._duty.name)
            self._on_failure(error)
        else:
            self.state = "stopped"

    async def _live_on(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        back_off_s = BACK_OFF_S[0]
        while not self.stopping:
            try:
                await self._live_once()
            except Exception as error:
                if not isinstance(error, Transient) and not is_transient(error):
                    raise
                if self.state in ("leading", "catching_up"):
                    back_off_s = BACK_OFF_S[0]
                self.state, self.trouble = "retrying", str(error) or type(error).__name__
                RETRIES.labels(self._duty.name).inc()
                log.warning("worker_transient", worker=self._duty.name, error=self.trouble, after_s=back_off_s)
                await self.pause(back_off_s)
                back_off_s = min(back_off_s * 2, BACK_OFF_S[1])

    async def _live_once(self) -> None:
        connection = await connect(self._url, name=f"solyx-gateway-{self._duty.name}")
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._duty.lock):
                self.state = "standby"
                await self.pause(LEAD_POLL_S)
                if self.stopping:
                    return
            await self._duty.lead(connection, self)
        finally:
            connection.terminate()  # frees the lock at once; a polite close may wait for a server that is gone
