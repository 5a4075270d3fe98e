"""Whether the gateway can do its work: database, broker, relay and read model. Asked by /readyz and /metrics.

What the outbox holds is read from the database each time, by whichever replica is asked: who reads that nothing is
unpublished may stop the gateway in the next moment. A figure that the leading relay keeps would be old, and 0 at the others.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from prometheus_client import Gauge
from sqlalchemy import text

from services.gateway.model import Readiness
from services.gateway.store import outbox
from solyx.database import is_transient

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from services.gateway.service.projector import Projector
    from services.gateway.service.worker import Worker
    from services.gateway.settings import GatewaySettings
    from solyx.bus.probe import BrokerProbe

DATABASE_PROBE_S = 2.0

OUTBOX_AGE = Gauge("solyx_outbox_oldest_seconds", "Age of the oldest unpublished outbox row; NaN: not known")


@dataclass(frozen=True, kw_only=True)
class DatabaseLook:
    """What the database says of itself."""

    status: str  # "ok", or what is wrong
    oldest_unpublished_s: float | None  # None: not known


class Watch:
    """Puts together what the parts say of themselves."""

    def __init__(
        self,
        *,
        settings: GatewaySettings,
        engine: AsyncEngine,
        probe: BrokerProbe,
        relay: Worker,
        projector: tuple[Projector, Worker],
    ) -> None:
        self._settings, self._engine, self._probe = settings, engine, probe
        self._relay, self._projector = relay, projector
        self.migrated = False

    async def look_at_database(self) -> DatabaseLook:
        """Ask it whether it answers, and for the age of the outbox, which becomes the metric too."""
        status, oldest_s = f"no answer in {DATABASE_PROBE_S:g} s", None
        try:
            async with asyncio.timeout(DATABASE_PROBE_S), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
                status = "ok"  # also when it is too busy to look through a long outbox in time
                if self.migrated:
                    oldest_s = await outbox.oldest_age_s(connection)
        except TimeoutError:
            pass
        except Exception as error:
            if not is_transient(error):
                raise
            status = f"unreachable: {type(error).__name__}"
        OUTBOX_AGE.set(nan if oldest_s is None else oldest_s)
        return DatabaseLook(status=status, oldest_unpublished_s=oldest_s)

    async def readiness(self) -> Readiness:
        """Whether jobs are taken, published and shown, as of now."""
        look = await self.look_at_database()
        projector, projector_worker = self._projector
        lag, oldest_s = projector.lag, look.oldest_unpublished_s
        # A replica that does not publish is not made unready by what waits: it takes and shows jobs as well as before.
        behind = self._relay.state == "leading" and (oldest_s or 0.0) > self._settings.ready_max_outbox_age_s
        ready = (
            self.migrated
            and look.status == "ok"
            and self._probe.answers
            and self._relay.state in ("leading", "standby")
            and projector_worker.state in ("leading", "standby")
            and (lag or 0) <= self._settings.ready_max_lag
            and not behind
        )
        return Readiness(
            ready=ready,
            database=look.status if self.migrated or look.status != "ok" else "being prepared",
            broker=self._probe.status,
            relay=self._relay.description,
            projector=projector_worker.description,
            lag_records=lag,
            oldest_unpublished_s=None if oldest_s is None else round(oldest_s, 3),
        )
