"""The topic catalogue: partitions, order, compaction and retention of every topic.

Topics whose records belong to a site have the same number of partitions and the same partitioner, so partition ``p`` of each
of them holds the same sites: one shard of a service that works per site reads partition ``p`` of all its inputs.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SITE_PARTITIONS = 4
"""Partitions of every topic ordered by site; the most replicas among which sites can be shared."""

_DAY_MS = 24 * 3600 * 1000


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic. ``retention_ms`` -1: for ever (compacted topics)."""

    name: str
    partitions: int
    keyed_by: str  # for people: docs and AsyncAPI
    ordered_by: str
    cleanup: Literal["compact", "delete"]
    retention_ms: int
    description: str


def _entity(name: str, keyed_by: str, ordered_by: str, description: str, partitions: int = SITE_PARTITIONS) -> Topic:
    return Topic(
        name=name,
        partitions=partitions,
        keyed_by=keyed_by,
        ordered_by=ordered_by,
        cleanup="compact",
        retention_ms=-1,
        description=description,
    )


def _stream(
    name: str, keyed_by: str, ordered_by: str, description: str, days: float, partitions: int = SITE_PARTITIONS
) -> Topic:
    return Topic(
        name=name,
        partitions=partitions,
        keyed_by=keyed_by,
        ordered_by=ordered_by,
        cleanup="delete",
        retention_ms=int(days * _DAY_MS),
        description=description,
    )


JOBS = _entity("jobs", "job id", "job id", "Accepted jobs and requests to cancel them")
SITES = _entity("sites", "site", "site", "Inventory and power model of each site")
NODES = _entity("nodes", "site", "site", "What operators ordered about the nodes of each site")
LINKS = _stream("links", "link id", "link id", "Counters and state of network links", days=7)
METRICS = _stream("metrics", "source", "source", "Samples, one record for each source and scrape", days=1)
ENERGY = _stream("energy", "site/kind/start", "site", "Prices, carbon intensity, renewable share, feed state", days=90)
GRID = _entity("grid", "site/event id", "site", "Demand-response events, and requests of sites for their price")
FEATURES = _stream("features", "source/window start/window end", "source", "Window statistics of metric series", days=1)
FORECASTS = _entity("forecasts", "subject/kind", "subject", "Latest forecast of each series, with intervals")
ANOMALIES = _stream("anomalies", "source/series", "source", "Series that left their expected range", days=30)
READINGS = _stream("readings", "site/job id/revision/meter", "site", "What the energy meters of runs stood at", days=7)
PLACEMENTS = _entity("placements", "site/job id", "site", "Where and when each job runs; its one terminal outcome")
ALLOCATIONS = _entity("allocations", "site/job id", "site", "Which nodes and devices each job holds")
RESPONSES = _entity(
    "responses",
    "site/event id",
    "site",
    "What sites delivered to the grid and for their price; bounds on latency that are broken",
)
QUOTAS = _entity("quotas", "site", "site", "How the quotas of each site are used")
ROUTES = _entity("routes", "source>target", "source>target", "Path and backup of each pair of sites")
LATENCIES = _entity("latencies", "site", "site", "How far places are from each site, as the network measures it")
ACTUATIONS = _entity(
    "actuations", "site/job id or route/source>target", "site or route", "What clusters and networks did"
)
BUDGETS = _entity("budgets", "tenant", "tenant", "What each tenant may use over time", partitions=1)
DEADLETTERS = _stream("deadletters", "original key", "original key", "Unreadable records with their error", days=30)

TOPICS: tuple[Topic, ...] = (
    JOBS,
    SITES,
    NODES,
    LINKS,
    METRICS,
    ENERGY,
    GRID,
    FEATURES,
    FORECASTS,
    ANOMALIES,
    READINGS,
    PLACEMENTS,
    RESPONSES,
    ALLOCATIONS,
    QUOTAS,
    ROUTES,
    LATENCIES,
    ACTUATIONS,
    BUDGETS,
    DEADLETTERS,
)
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}


def shards_topic(service: str, shards: int) -> Topic:
    """The topic by which replicas of ``service`` share its shards: no records, one partition a shard."""
    return _stream(
        f"shards.{service}", "none", "none", f"Ownership of the shards of {service}; holds no records", 1, shards
    )
