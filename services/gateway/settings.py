"""The gateway's settings (docs/configuration.md)."""

from __future__ import annotations

from solyx.settings import Settings


class GatewaySettings(Settings, frozen=True, kw_only=True):
    """Read from ``SOLYX_GATEWAY_<FIELD>`` or ``SOLYX_<FIELD>``."""

    database_url: str = "postgresql+asyncpg://solyx@127.0.0.1:5432/solyx"
    database_pool: int = 8  # connections for requests; relay, projector and listener have one each besides
    max_body_bytes: int = 32 * 1024 * 1024  # of one request: 10,000 jobs of 3 KiB
    max_batch_jobs: int = 10_000
    requests_per_s: float = 500.0  # for each key; a burst of twice that is taken
    jobs_per_s: float = 10_000.0  # for each key
    jobs_burst: float = 100_000.0
    streams_per_key: int = 100  # open at a time at each replica; each costs a query a second
    key_cache_s: float = 2.0  # a revoked key works at most this long on other replicas
    idempotency_hours: float = 24.0  # how long an Idempotency-Key is remembered
    retention_days: float = 30.0  # a job leaves the read model and `jobs` so long after its end; 0: never
    relay_batch: int = 5_000
    projector_batch: int = 10_000
    projector_pause_s: float = 0.05  # between two batches: several changes of a job become one
    poll_s: float = 1.0  # longest wait when a notification was missed
    ready_max_lag: int = 200_000  # records the read model may be behind and still be ready
    ready_max_outbox_age_s: float = 60.0
