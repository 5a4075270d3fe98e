"""What the SDN core takes in and hands on: its policy, paths, and the pairs they join."""

from __future__ import annotations

from typing import TypeAlias

from solyx.events.event import Model

Pair: TypeAlias = tuple[str, str]  # two sites, source and target

LOCAL_HEADROOM_BPS = 1e12
"""Headroom of a route between two sites at one network node: no link is crossed, so a machine's own port is the limit."""


class Policy(Model, frozen=True):
    """How soon and for how much a route is changed. All times are scenario seconds."""

    max_utilisation: float = 0.8  # a link above it is avoided; a route over one is congested
    hysteresis: float = 0.2  # a path must cost less by this share to replace a standing one
    dwell_s: float = 600.0  # a standing route is changed by choice no more often than this
    hold_s: float = 60.0  # a link that came up again is used after this long
    smoothing_s: float = 300.0  # time constant of the mean over rates and latencies
    evaluation_interval_s: float = 60.0  # between evaluations that only counters ask for
    settle_s: float = 1.0  # a first route waits until the topology has been the same for this long
    latency_fresh_s: float = 5400.0  # a link that was not observed for this long has no measured latency
    latency_news: float = 0.1  # share by which a round trip must change to be told at once
    movement_s: float = 300.0  # a job's data is expected to arrive at least this long after its placement


class Path(Model, frozen=True):
    """Links in order. No links: both ends are the same node."""

    links: tuple[str, ...]
    weight: float


class Protected(Model, frozen=True):
    """A path, and a link-disjoint one to fall back on where the network has one."""

    path: Path
    backup: Path | None
