"""What the CMO can be told from outside; read from the environment by ``solyx.settings.load``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from services.cmo.model import Policy
from solyx.settings import Settings

NonNegative = Annotated[float, Meta(ge=0)]
Hours = Annotated[int, Meta(ge=1, le=168)]
Attempts = Annotated[int, Meta(ge=1)]

_MOVE_WALL_S = 1.0  # what a stop and a start take beside the restart: in a fast replay that is long, and few moves pay


class CmoSettings(Settings, frozen=True, kw_only=True):
    """The shared settings and what the CMO weighs. Fields in ``wall_s`` are seconds of the world, whatever a replay's speed."""

    carbon_eur_per_t: NonNegative = 100.0
    delay_eur_per_job_h: NonNegative = 0.00003
    restart_s: NonNegative = 60.0
    horizon_h: Hours = 72
    max_attempts: Attempts = 3
    stuck_h: NonNegative = 2.0
    forecast_fresh_h: NonNegative = 3.0
    reaction_wall_s: NonNegative = 10.0
    latency_patience_s: NonNegative = 300.0
    settle_wall_s: NonNegative = 2.0

    def policy(self, *, speed: float) -> Policy:
        """The core's policy, in scenario time: a replay of ``speed`` scenario seconds in a second stretches wall times."""
        return Policy(
            carbon_eur_per_t=self.carbon_eur_per_t,
            delay_eur_per_job_h=self.delay_eur_per_job_h,
            restart_s=max(self.restart_s, _MOVE_WALL_S * speed),
            horizon_h=self.horizon_h,
            max_attempts=self.max_attempts,
            stuck_s=self.stuck_h * 3600.0,
            reaction_s=self.reaction_wall_s * speed,
            forecast_fresh_s=self.forecast_fresh_h * 3600.0,
            latency_patience_s=max(self.latency_patience_s, self.reaction_wall_s * speed),
            settle_s=self.settle_wall_s * speed,
        )
