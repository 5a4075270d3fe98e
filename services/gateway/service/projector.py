"""The projector: the log's decisions and outcomes into the read model, exactly once.

Its offsets are rows of the same transaction as the tables they led to, so a crash loses both or neither. One replica leads;
its reading of the topics is nobody's business on the broker, no group is joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from services.gateway.core import Changes
from services.gateway.store import projection
from services.gateway.store.schema import PROJECTOR_LOCK
from solyx import topics
from solyx.bus.port import Partition
from solyx.clock import monotonic_s
from solyx.events import Poison, decode
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from services.gateway.service.worker import Worker
    from services.gateway.settings import GatewaySettings
    from solyx.bus.port import Bus, Received

log = get_logger()

READ_TIMEOUT_S = 0.2
MEASURE_EVERY_S = 1.0
TOPICS = (
    topics.JOBS,
    topics.PLACEMENTS,
    topics.ALLOCATIONS,
    topics.ACTUATIONS,
    topics.SITES,
    topics.NODES,
    topics.ROUTES,
    topics.LATENCIES,
    topics.ENERGY,
    topics.BUDGETS,
    topics.FORECASTS,
    topics.GRID,
    topics.RESPONSES,
    topics.QUOTAS,
)

PROJECTED = Counter("solyx_projected_records_total", "Records applied to the read model", ["topic"])
POISONED = Counter("solyx_projector_poison_total", "Unreadable records left out of the read model", ["topic"])
LAG = Gauge("solyx_projector_lag_records", "Records that the read model is behind")
APPLY = Histogram(
    "solyx_projector_apply_seconds",
    "Time of one batch's transaction",
    buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)


class Projector:
    """One replica leads; the others stand by."""

    name = "projector"
    lock = PROJECTOR_LOCK

    def __init__(self, bus: Bus, settings: GatewaySettings) -> None:
        self._bus, self._settings = bus, settings
        self.lag: int | None = None  # records behind the log; None: this replica does not read it

    async def lead(self, connection: asyncpg.Connection, worker: Worker) -> None:
        """Apply batches until asked to stop."""
        worker.state = "catching_up"
        offsets = await projection.load_offsets(connection)
        seq = await projection.last_seq(connection)
        tail = self._bus.tail([topic.name for topic in TOPICS], from_offsets=offsets)
        log.info("projector_leading", after_seq=seq)
        measured_at = 0.0
        try:
            while not worker.stopping:
                # Blocks this thread alone: it has nothing else to do until records come.
                batch = tail.read(max_records=self._settings.projector_batch, timeout_s=READ_TIMEOUT_S)
                if batch:
                    began = monotonic_s()
                    changes, moved = fold(batch)
                    seq = await projection.apply(connection, changes, moved, seq)
                    APPLY.observe(monotonic_s() - began)
                if worker.state != "leading" and tail.caught_up():
                    worker.state = "leading"
                if monotonic_s() - measured_at > MEASURE_EVERY_S:
                    measured_at = monotonic_s()
                    self.lag = tail.lag()
                    LAG.set(self.lag)
                if batch:
                    await worker.pause(self._settings.projector_pause_s)
        finally:
            # Another replica may lead from here on: the last figure would stand for ever, and keep this one unready.
            self.lag = None
            LAG.set(0)
            tail.close()


def fold(batch: Sequence[Received]) -> tuple[Changes, dict[Partition, int]]:
    """What a batch changes, and the offsets after it. Unreadable records are counted here and parked by their services."""
    changes = Changes()
    moved: dict[Partition, int] = {}
    counts: dict[str, int] = {}
    for received in batch:
        moved[Partition(received.topic, received.partition)] = received.offset + 1
        if received.value is None:
            continue
        try:
            envelope = decode(received.value, received.headers)
        except Poison as error:
            POISONED.labels(received.topic).inc()
            log.warning("poison_left_out", topic=received.topic, offset=received.offset, error=str(error))
            continue
        changes.fold(envelope, received.value)
        counts[received.topic] = counts.get(received.topic, 0) + 1
    for topic, count in counts.items():
        PROJECTED.labels(topic).inc(count)
    return changes, moved
