"""The CMO's frozen values: what it is told to weigh, and what it concludes about one job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from solyx.events import DeferralCause, FinishReason

if TYPE_CHECKING:
    from datetime import datetime

    from solyx.events import Alternative, CostBreakdown, JobSpec, PlacementReason, Victim


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the core weighs and how patient it is. All spans are in scenario time."""

    carbon_eur_per_t: float = 100.0  # EUR per t CO2eq
    delay_eur_per_job_h: float = 0.00003  # EUR for each hour that a job's start lies after its submission
    horizon_h: int = 72  # starts are considered this far ahead
    batch_jobs: int = 1500  # placements in one decision, so that a transaction stays short
    max_attempts: int = 3  # failures, other than lost nodes, that a job survives less one
    stuck_s: float = 7200.0  # a placement that has not started this long after its start time is stuck
    patience_s: float = (
        300.0  # from then on a placement that queues may go elsewhere, if waiting weighs more than that costs
    )
    reaction_s: float = 0.0  # what the other services need to act on a decision; grows with a replay's speed
    forecast_fresh_s: float = 10800.0  # a forecast older than this is not used
    restart_s: float = 60.0  # work that a job loses when it is stopped and goes on
    worth_share: float = 0.001  # of a plan's cost: what another must save for a placement to be taken back
    worth_eur: float = 0.00001  # the same for small plans
    news_share: float = (
        0.02  # of what hours ahead cost, or of a site's capacity: a change from which on plans are looked at again
    )
    replan_jobs: int = 200  # placements that are looked at again in one decision
    latency_patience_s: float = 300.0  # how long a site must be too far for a job before the job is moved
    settle_s: float = 0.0  # no job is refused for what the sites lack until no new site appeared for this long

    def delay_of(self, spec: JobSpec) -> float:
        """EUR for each hour that this job waits."""
        own = spec.weights.delay_eur_per_h
        return self.delay_eur_per_job_h if own is None else own


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Where and when one job shall run, and why."""

    site: str
    start_at: datetime
    reason: PlacementReason
    cost: CostBreakdown
    alternative: Alternative | None
    bound_by: str
    stretches: tuple[tuple[float, float], ...]  # when it is expected to run there: start and duration, s
    total_eur: float  # of what lies ahead, in the measure by which plans are compared
    then: tuple[tuple[str, tuple[float, float]], ...] = ()  # where and when it is to go on elsewhere after that
    queued: bool = False  # no site has room: it waits where the load is least, or where others make room
    victims: tuple[Victim, ...] = ()  # who makes room for it
    data_from: datetime | None = None  # when its data begins to move, if that takes time
    data_at: datetime | None = None  # when it is there

    @property
    def run_s(self) -> float:
        """How long it is expected to run."""
        return sum(length_s for _, length_s in (*self.stretches, *(stretch for _, stretch in self.then)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Refuse:
    """The job can never run; ``message`` says which figure stands against it."""

    reason: FinishReason
    message: str

    @property
    def about_sites(self) -> bool:
        """It rests on what the known sites lack: another site could make it another verdict."""
        return self.reason is not FinishReason.DEADLINE_PASSED


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """The job could run, but not now; ``message`` says which figure stands against it."""

    message: str
    cause: DeferralCause = DeferralCause.NO_READY_SITE
    until: datetime | None = None  # looked at again then at the latest; None: when the world changes

    @property
    def about_sites(self) -> bool:
        """It rests on what the known sites lack, not on what its tenant has left."""
        return self.cause is not DeferralCause.BUDGET


Verdict: TypeAlias = Choice | Refuse | Wait
