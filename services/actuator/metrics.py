"""What the actuator tells Prometheus, beside what the bus tells of every service."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ACTUATIONS = Counter(
    "solyx_actuations_total", "Reports published, and stale events refused, by site and status", ["site", "status"]
)
VERDICTS = Counter("solyx_target_verdicts_total", "Answers of targets to commands", ["target", "verdict"])
CALL = Histogram(
    "solyx_apply_seconds",
    "Time of one batch of commands at a target",
    ["target"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
FAILURES = Counter("solyx_target_failures_total", "Calls that a target did not answer", ["target"])
BREAKER = Gauge("solyx_breaker_state", "Circuit breaker: 0 closed, 1 half open, 2 open", ["target"])
QUEUE = Gauge("solyx_target_queue_commands", "Commands given or waiting, not yet confirmed", ["target"])
