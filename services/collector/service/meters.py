"""What the collector counts about itself (Prometheus metrics; README.md lists them)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

EVENTS = Counter("solyx_collector_events", "Events that are safe in Kafka", ["topic"])
SAMPLES = Counter("solyx_collector_samples", "Metric samples that are safe in Kafka", ["by"])
DROPPED = Counter("solyx_collector_samples_dropped", "Samples that were left out", ["reason"])
RETRIES = Counter("solyx_collector_publish_retries", "Batches that Kafka did not take at once")
BUFFERED = Gauge("solyx_collector_buffered_bytes", "Encoded events that wait for Kafka")
FEED_UP = Gauge("solyx_collector_feed_up", "1: the feed's last attempt succeeded", ["feed"])
FEED_ATTEMPTS = Counter("solyx_collector_feed_attempts", "Attempts to read a feed", ["feed", "outcome"])
WRITES = Counter("solyx_collector_remote_writes", "Remote write requests by HTTP status", ["status"])
