"""Whether metrics are being read: a consumer that stalls without an error (it happens after a rebalance) must not go unnoticed.

Asks the broker, not the consumer that may be stuck, how many records wait for this replica's partitions.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition
from prometheus_client import Gauge

from services.forecaster.service.table import GROUP
from solyx.clock import monotonic_s
from solyx.telemetry import get_logger
from solyx.topics import METRICS

if TYPE_CHECKING:
    from services.forecaster.service.windows import WindowWorker
    from services.forecaster.settings import ForecasterSettings

log = get_logger()

LAG = Gauge("solyx_forecaster_metrics_lag_records", "Records of metrics that this replica has not committed yet")
_EVERY_S = 5.0
_CALL_S = 5.0


class StalledError(Exception):
    """Metrics wait and none is read; a new process recovers where this one hangs."""


class Progress:
    """Looks at the lag every few seconds, on a thread."""

    def __init__(self, settings: ForecasterSettings, worker: WindowWorker) -> None:
        """``failed`` is set when nothing was read for ``settings.stall_s`` although records wait."""
        self._settings, self._worker = settings, worker
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forecaster-progress", daemon=True)
        self.lag = 0
        self.failed: BaseException | None = None

    def start(self) -> None:
        """Look until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join(_CALL_S)

    def _run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._settings.kafka_bootstrap_servers,
                "client.id": f"{GROUP}-progress-{self._settings.replica}",
                "group.id": GROUP,  # to read its offsets; it never subscribes, so it is no member
                "enable.auto.commit": False,
            }
        )
        seen, moved_at = -1, monotonic_s()
        try:
            while not self._stopping.wait(_EVERY_S):
                try:
                    self.lag = self._lag(consumer)
                except KafkaException as error:
                    log.warning("lag_unknown", error=str(error))
                    moved_at = monotonic_s()  # the broker is away: nobody makes progress
                    continue
                LAG.set(self.lag)
                if self._worker.events != seen or not self.lag:
                    seen, moved_at = self._worker.events, monotonic_s()
                elif monotonic_s() - moved_at > self._settings.stall_s:
                    self.failed = StalledError(
                        f"{self.lag} records wait, none was read for {self._settings.stall_s:.0f} s"
                    )
                    return
        finally:
            consumer.close()

    def _lag(self, consumer: Consumer) -> int:
        wanted = [TopicPartition(METRICS.name, number) for number in self._worker.partitions()]
        if not wanted:
            return 0
        lag = 0
        for place in consumer.committed(wanted, timeout=_CALL_S):
            low, high = consumer.get_watermark_offsets(place, timeout=_CALL_S)
            lag += max(0, high - max(place.offset, low))
        return lag
