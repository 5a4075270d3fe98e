"""Whether metrics are being read: a consumer that stalls without an error (it happens after a rebalance) must not go unnoticed.

Asks the broker, not the consumer that may be stuck, how many records wait for this replica's partitions.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from prometheus_client import Gauge

from services.forecaster.service.table import GROUP
from solyx.clock import monotonic_s
from solyx.telemetry import get_logger
from solyx.topics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.forecaster.service.windows import WindowWorker
    from services.forecaster.settings import ForecasterSettings

log = get_logger()

LAG = Gauge("solyx_forecaster_metrics_lag_records", "Records of metrics that this replica has not committed yet")
_EVERY_S = 5.0
_CALL_S = 5.0


class StalledError(Exception):
    """Metrics wait and none is read; a new process recovers where this one hangs."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition has been worked off."""

    committed: int
    lag: int  # records behind that


class Stall:
    """Records of a partition wait and none is committed."""

    def __init__(self, after_s: float) -> None:
        """``after_s``: how long that may last."""
        self._after_s = after_s
        self._seen: dict[int, tuple[int, float]] = {}  # partition → committed, since when

    def longest(self, places: Mapping[int, Place], now_s: float) -> int | None:
        """The partition in which it has lasted too long, if any. Partitions that are not in ``places`` are forgotten."""
        self._seen = {number: seen for number, seen in self._seen.items() if number in places}
        for number, place in places.items():
            committed, since_s = self._seen.get(number, (None, now_s))
            if place.lag == 0 or place.committed != committed:
                self._seen[number] = (place.committed, now_s)
            elif now_s - since_s > self._after_s:
                return number
        return None


class Progress:
    """Looks at the lag every few seconds, on a thread."""

    def __init__(self, settings: ForecasterSettings, worker: WindowWorker) -> None:
        """``failed`` is set when nothing of a partition was committed for ``settings.stall_s`` although records wait in it."""
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
        stall = Stall(self._settings.stall_s)
        try:
            while not self._stopping.wait(_EVERY_S):
                places = self._look(consumer)
                stalled = stall.longest(places, monotonic_s())
                if stalled is not None:
                    waiting, most_s = places[stalled].lag, self._settings.stall_s
                    self.failed = StalledError(
                        f"{waiting} records wait in {METRICS.name}/{stalled}, none read in {most_s:.0f} s"
                    )
                    return
        finally:
            consumer.close()

    def _look(self, consumer: Consumer) -> dict[int, Place]:
        """Nothing while the broker is away: then nobody makes progress."""
        try:
            places = self._places(consumer)
        except KafkaException as error:
            log.warning("lag_unknown", error=str(error))
            return {}
        self.lag = sum(place.lag for place in places.values())
        LAG.set(self.lag)
        return places

    def _places(self, consumer: Consumer) -> dict[int, Place]:
        wanted = [TopicPartition(METRICS.name, number) for number in self._worker.partitions()]
        places: dict[int, Place] = {}
        for at in consumer.committed(wanted, timeout=_CALL_S) if wanted else ():
            low, high = consumer.get_watermark_offsets(at, timeout=_CALL_S)
            committed = max(at.offset, low)
            places[at.partition] = Place(committed=committed, lag=max(0, high - committed))
        return places
