"""Whether the gateway can do its work: database, broker, relay and read model. Asked by /readyz, kept fresh in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.model import Readiness

if TYPE_CHECKING:
    from services.gateway.service.projector import Projector
    from services.gateway.service.relay import Relay
    from services.gateway.service.worker import Worker
    from services.gateway.settings import GatewaySettings
    from solyx.bus.probe import BrokerProbe


class Watch:
    """Puts together what the parts say of themselves."""

    def __init__(
        self,
        *,
        settings: GatewaySettings,
        probe: BrokerProbe,
        relay: tuple[Relay, Worker],
        projector: tuple[Projector, Worker],
    ) -> None:
        self._settings, self._probe, self._relay, self._projector = settings, probe, relay, projector
        self.migrated = False

    def readiness(self, database: str) -> Readiness:
        """``database``: "ok", or what is wrong with it."""
        relay, relay_worker = self._relay
        projector, projector_worker = self._projector
        oldest_s = relay.oldest_s if relay_worker.state == "leading" else 0.0
        ready = (
            self.migrated
            and database == "ok"
            and self._probe.answers
            and relay_worker.state in ("leading", "standby")
            and projector_worker.state in ("leading", "standby")
            and projector.lag <= self._settings.ready_max_lag
            and oldest_s <= self._settings.ready_max_outbox_age_s
        )
        return Readiness(
            ready=ready,
            database=database if self.migrated or database != "ok" else "being prepared",
            broker=self._probe.status,
            relay=relay_worker.description,
            projector=projector_worker.description,
            lag_records=projector.lag,
            oldest_unpublished_s=round(oldest_s, 3),
        )
