"""Whether the gateway can do its work: database, broker, relay and read model. Asked by /readyz, kept fresh in the background."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from services.gateway.model import Readiness
from solyx.bus.port import Transient
from solyx.topics import JOBS

if TYPE_CHECKING:
    from services.gateway.service.projector import Projector
    from services.gateway.service.relay import Relay
    from services.gateway.service.worker import Worker
    from services.gateway.settings import GatewaySettings
    from solyx.bus.port import Bus

PROBE_EVERY_S = 3.0


class BrokerProbe:
    """Asks the broker for its topics again and again, on a thread of its own: the call may block for seconds."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-broker-probe", daemon=True)
        self.status = "not asked yet"

    def start(self) -> None:
        """Ask until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a question that is open is not waited for."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._bus.ensure_topics((JOBS,))
                self.status = "ok"
            except Transient as error:
                self.status = f"unreachable: {error}"
            self._stopping.wait(PROBE_EVERY_S)


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
            and self._probe.status == "ok"
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
