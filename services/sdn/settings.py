"""What the SDN can be told from outside; the only reader of the environment here. Times are scenario seconds."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from services.sdn.model import Policy
from solyx.settings import Settings

Share = Annotated[float, Meta(ge=0, lt=1)]
Seconds = Annotated[float, Meta(ge=0)]

EVALUATIONS_PER_WALL_SECOND = 4.0
"""In a fast replay the evaluation interval is stretched to this rate, so that counters which rush by do not fill a processor: one
evaluation of four sites on the 12 nodes of B4 takes 1.5 ms at most."""

FRESH_WALL_S = 30.0
"""In a fast replay a measurement is good for at least this long a time of the world: it may take seconds to be read."""


class SdnSettings(Settings, frozen=True, kw_only=True):
    """``SOLYX_SDN_<FIELD>``."""

    max_utilisation: Annotated[float, Meta(gt=0, le=1)] = Policy().max_utilisation
    hysteresis: Share = Policy().hysteresis
    dwell_s: Seconds = Policy().dwell_s
    hold_s: Seconds = Policy().hold_s
    smoothing_s: Seconds = Policy().smoothing_s
    evaluation_interval_s: Seconds = Policy().evaluation_interval_s
    settle_s: Seconds = Policy().settle_s
    latency_fresh_s: Annotated[float, Meta(gt=0)] = Policy().latency_fresh_s
    latency_news: Share = Policy().latency_news
    movement_s: Seconds = Policy().movement_s

    def policy(self, *, speed: float) -> Policy:
        """The core's policy for a clock of ``speed`` scenario seconds in a wall second."""
        return Policy(
            max_utilisation=self.max_utilisation,
            hysteresis=self.hysteresis,
            dwell_s=self.dwell_s,
            hold_s=self.hold_s,
            smoothing_s=self.smoothing_s,
            evaluation_interval_s=max(self.evaluation_interval_s, speed / EVALUATIONS_PER_WALL_SECOND),
            settle_s=self.settle_s,
            latency_fresh_s=max(self.latency_fresh_s, speed * FRESH_WALL_S),
            latency_news=self.latency_news,
            movement_s=self.movement_s,
        )
