"""What is known of each link: smoothed load, whether it may be used, and what it costs to cross."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from solyx.events.event import Model

if TYPE_CHECKING:
    from services.sdn.model import Policy
    from solyx.events import LinkObserved

UTILISATION_STEP = 0.05
"""Load is seen in steps of 5 %: a counter that moves within one changes no weight, so it costs no evaluation."""

LATENCY_STEP_MS = 0.1
LEAST_LATENCY_MS = 0.05
"""A link costs something even where its latency is given as 0, so that a path never has a needless link."""

MOST_INFLATION_AT = 0.95  # the weight of a link stops growing here: 1/(1 − u) has no end
SATURATED_MS = 1e6
"""Added for each link above the utilisation bound: more than any path's latency, so such a link is taken only when there is no way
around it, and as few of them as possible."""


class Ends(Model, frozen=True):
    """The nodes that a link leaves and enters."""

    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class LinkState:
    """One directed link after all observations so far."""

    ends: Ends
    capacity_bps: float
    rate_bps: float  # smoothed
    latency_ms: float  # smoothed
    up: bool
    recovered_at: datetime | None  # when it last came up after having been seen down
    observed_at: datetime

    def stands(self) -> bool:
        """Whether a route that uses the link may stay on it."""
        return self.up and self.capacity_bps > 0

    def usable_from(self, policy: Policy) -> datetime | None:
        """When a new route may use it; None: at any time. Asked of links that stand."""
        return None if self.recovered_at is None else self.recovered_at + timedelta(seconds=policy.hold_s)

    def utilisation(self, extra_bps: float = 0.0) -> float:
        """Share of the capacity in use, in steps of ``UTILISATION_STEP``, with ``extra_bps`` on top."""
        if self.capacity_bps <= 0:
            return math.inf
        steps = math.floor((self.rate_bps + extra_bps) / self.capacity_bps / UTILISATION_STEP + 1e-9)
        return round(steps * UTILISATION_STEP, 6)

    def weight(self, policy: Policy, extra_bps: float = 0.0) -> float:
        """Latency times 1/(1 − u): how queueing stretches it (the sojourn time of an M/M/1 queue; Kleinrock, Queueing Systems I, 3.2)."""
        used = self.utilisation(extra_bps)
        steps = max(round(self.latency_ms / LATENCY_STEP_MS), 0) * LATENCY_STEP_MS
        weight = max(steps, LEAST_LATENCY_MS) / (1 - min(used, MOST_INFLATION_AT))
        return weight + SATURATED_MS if used > policy.max_utilisation else weight


def observe(known: LinkState | None, event: LinkObserved, policy: Policy) -> LinkState:
    """The state after a later observation: a mean that forgets exponentially, and the time of a recovery."""
    rate_bps, latency_ms, recovered_at = event.rate_bps, event.latency_ms, None
    if known is not None:
        passed_s = (event.observed_at - known.observed_at).total_seconds()
        keep = math.exp(-passed_s / policy.smoothing_s) if policy.smoothing_s > 0 else 0.0
        rate_bps = keep * known.rate_bps + (1 - keep) * event.rate_bps
        latency_ms = keep * known.latency_ms + (1 - keep) * event.latency_ms
        recovered_at = event.observed_at if event.up and not known.up else known.recovered_at
    return LinkState(
        ends=Ends(source=event.source, target=event.target),
        capacity_bps=event.capacity_bps,
        rate_bps=rate_bps,
        latency_ms=latency_ms,
        up=event.up,
        recovered_at=recovered_at,
        observed_at=event.observed_at,
    )
