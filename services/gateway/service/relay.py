"""The outbox relay: published in the order of commits, deleted after the broker's acknowledgement.

Simple algorithm: read the oldest rows below the snapshot's horizon, publish them, wait until the broker has them, delete
them, again. A crash between the last two publishes rows twice with the same event ids, which every reader merges; no crash
loses one. A notification after each commit wakes the relay; the poll finds what a lost notification hid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter

from services.gateway.service.retention import Retention
from services.gateway.store import outbox
from services.gateway.store.jobs import OUTBOX_CHANNEL
from services.gateway.store.schema import RELAY_LOCK
from solyx.clock import monotonic_s
from solyx.events import Record
from solyx.telemetry import get_logger, step

if TYPE_CHECKING:
    import asyncpg

    from services.gateway.service.worker import Worker
    from services.gateway.settings import GatewaySettings
    from services.gateway.store.outbox import OutboxRow, Position
    from solyx.bus.port import Bus, Publisher
    from solyx.clock import Clock

log = get_logger()

PUBLISH_TIMEOUT_S = 10.0
FORGET_EVERY_S = 600.0
DRAIN_S = 3.0
"""How long a relay that leaves goes on, at most: another transaction may hold the horizon, or other replicas take jobs."""
HORIZON_POLL_S = 0.01
"""A wake-up comes with the commit; an older transaction may hold the horizon a moment longer."""

SOURCE = "solyx/gateway"
PUBLISHED = Counter("solyx_outbox_published_total", "Outbox rows published and deleted")

_FIXED = [
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
    ("ce_source", SOURCE.encode()),
]


def record_of(row: OutboxRow) -> Record:
    """The record that ``solyx.events.encode`` makes of the row's event, without decoding the event again."""
    headers = [
        *_FIXED,
        ("ce_type", row.type.encode()),
        ("ce_id", row.id.encode()),
        ("ce_time", row.time.isoformat().encode()),
        ("ce_subject", row.aggregateid.encode()),
    ]
    traceparent = step("gateway publish", row.traceparent, {"job_id": row.aggregateid})
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return Record(row.aggregatetype, row.aggregateid, row.aggregateid, row.payload, headers)


class Relay:
    """One replica leads; the others stand by."""

    name = "relay"
    lock = RELAY_LOCK

    def __init__(self, bus: Bus, settings: GatewaySettings, clock: Clock) -> None:
        self._bus, self._settings, self._clock = bus, settings, clock
        self._forgot_at = -FORGET_EVERY_S

    async def lead(self, connection: asyncpg.Connection, worker: Worker) -> None:
        """Move rows until asked to stop."""
        # A crash of the server may bring deleted rows back: they are published again, which is harmless.
        await connection.execute("SET synchronous_commit = off")
        await connection.add_listener(OUTBOX_CHANNEL, lambda *_: worker.wake())
        publisher = self._bus.publisher(name="gateway-relay")
        retention = Retention(self._settings.retention_days, self._clock)
        after = outbox.BEGINNING
        try:
            worker.state = "leading"
            log.info("relay_leading")
            while not worker.stopping:
                position = await self._turn(connection, publisher, after)
                await self._keep_house(connection)
                await retention.turn(connection, publisher)
                if position is not None:
                    after = position
                    continue
                held_back = await outbox.is_waiting(connection, after)
                await worker.pause(HORIZON_POLL_S if held_back else self._settings.poll_s)
            await self._drain(connection, publisher, worker, after)
        finally:
            publisher.close()

    async def _drain(
        self, connection: asyncpg.Connection, publisher: Publisher, worker: Worker, after: Position
    ) -> None:
        """Publish what is left before leaving: there may be no other replica, and what waits here waits for the next start."""
        until_s = monotonic_s() + DRAIN_S
        while waiting := await outbox.is_waiting(connection, after):
            if monotonic_s() > until_s:
                break
            position = await self._turn(connection, publisher, after)
            if position is None:
                await worker.pause(HORIZON_POLL_S)
            else:
                after = position
        log.info("relay_leaving", unpublished=waiting)

    async def _turn(self, connection: asyncpg.Connection, publisher: Publisher, after: Position) -> Position | None:
        """Move one batch; None: there was nothing."""
        rows = await outbox.read(connection, after, self._settings.relay_batch)
        if not rows:
            return None
        publisher.publish([record_of(row) for row in rows], timeout_s=PUBLISH_TIMEOUT_S)
        through = outbox.Position(rows[-1].xid, rows[-1].seq)
        await outbox.delete(connection, after, through)
        PUBLISHED.inc(len(rows))
        return through

    async def _keep_house(self, connection: asyncpg.Connection) -> None:
        now = monotonic_s()
        if now - self._forgot_at > FORGET_EVERY_S:
            self._forgot_at = now
            await outbox.forget_old_keys(connection, self._settings.idempotency_hours)
