"""What the collector counts about itself (Prometheus metrics; README.md lists them)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.collector.core.readings import Meters
    from services.collector.core.series import Sample
    from solyx.events import Event

log = get_logger()

EVENTS = Counter("solyx_collector_events", "Events that are safe in Kafka", ["topic"])
SAMPLES = Counter("solyx_collector_samples", "Metric samples that are safe in Kafka", ["by"])
DROPPED = Counter("solyx_collector_samples_dropped", "Samples that were left out", ["reason"])
RETRIES = Counter("solyx_collector_publish_retries", "Batches that Kafka did not take at once")
BUFFERED = Gauge("solyx_collector_buffered_bytes", "Encoded events that wait for Kafka")
FEED_UP = Gauge("solyx_collector_feed_up", "1: the feed's last attempt succeeded", ["feed"])
FEED_ATTEMPTS = Counter("solyx_collector_feed_attempts", "Attempts to read a feed", ["feed", "outcome"])
WRITES = Counter("solyx_collector_remote_writes", "Remote write requests by HTTP status", ["status"])


def readings_too(meters: Meters, by_source: Mapping[str, Iterable[Sample]]) -> list[Event]:
    """The samples and the readings in them, as events; meters that nobody can bill by are counted and told once."""
    events, complaints = meters.events(by_source)
    for complaint in complaints:
        DROPPED.labels("bad_meter").inc()
        log.warning("meter_refused", error=complaint)
    return events
