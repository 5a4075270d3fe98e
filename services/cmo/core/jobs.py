"""One job as the CMO knows it: a merge of everything that was said about it, by revision.

Merging commutes: whichever of a job's events comes first, the record ends up the same. What to do next is read off the record
(`orchestrator.py`), never off the event that came last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Literal

from solyx.events import (
    NOWHERE,
    JobCancellationRequested,
    JobPlaced,
    JobSubmitted,
    PlacementDeferred,
    PlacementReason,
    PlacementWithdrawn,
    Run,
    Usage,
    WithdrawalReason,
    WorkloadReason,
    WorkloadReported,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from solyx.events import CostBreakdown, JobSpec, Victim

_MOVES = frozenset(
    (
        WithdrawalReason.MIGRATION,
        WithdrawalReason.SUSPENSION,
        WithdrawalReason.GRID_EVENT,
        WithdrawalReason.PRICE_BOUND,
        WithdrawalReason.PREEMPTION,
        WithdrawalReason.LATENCY,
    )
)
_AFTER: dict[WithdrawalReason | None, PlacementReason] = {
    WithdrawalReason.MIGRATION: PlacementReason.MIGRATION,
    WithdrawalReason.SUSPENSION: PlacementReason.RESUMED,
    WithdrawalReason.GRID_EVENT: PlacementReason.GRID_EVENT,
    WithdrawalReason.PRICE_BOUND: PlacementReason.PRICE_BOUND,
    WithdrawalReason.LATENCY: PlacementReason.LATENCY,
}
End = Literal["succeeded", "failed", "stopped"]


def total(runs: Iterable[Run]) -> Usage:
    """What they took together."""
    return reduce(Usage.plus, (run.usage for run in runs), Usage())


@dataclass(slots=True)
class Job:
    """What is known of a job that has no outcome yet."""

    job_id: str
    tenant: str = ""
    spec: JobSpec | None = None  # None: something was said about it before it was submitted
    submitted_at: datetime | None = None
    cancel_requested: bool = False

    # The latest placement.
    revision: int = 0  # 0: never placed
    site: str = NOWHERE
    start_at: datetime | None = None
    data_at: datetime | None = None  # when its data is there; None: nothing limits its movement
    data_from: datetime | None = None  # when it begins to move there; None: nobody said
    attempt: int = 1
    cost: CostBreakdown | None = None  # what it was expected to cost; None: only its withdrawal is known
    progress_s: float = 0.0  # work that the runs before it did and kept
    runs: tuple[Run, ...] = ()  # the runs before it
    victims: tuple[Victim, ...] = ()  # who was chosen to make room for it

    # The latest withdrawal and the latest report, each with the revision it is about.
    withdrawn: int = 0
    withdrawal: WithdrawalReason | None = None
    withdrawn_at: datetime | None = None
    relieved_at: datetime | None = None  # when it was last taken back, or placed anew, for a price above a bound
    report: WorkloadReported | None = None
    began: tuple[int, datetime] | None = None  # revision and start of the latest run
    deferral: PlacementDeferred | None = None  # the latest

    # Bookkeeping of the core, not part of what was said.
    queued: bool = False
    reviewed: int = -1  # revision after which it was last told to be looked at when its deadline passes
    committed: tuple[int, bool] = (0, False)  # revision and whether it had started when its use was last written down

    @property
    def started(self) -> bool:
        """The latest placement was seen running, and no end of it."""
        return self.report is not None and self.report.revision == self.revision and self.report.status == "started"

    @property
    def end(self) -> End | None:
        """How the latest placement ended; None while it may still run, or when there was none."""
        report = self.report
        if self.revision and report is not None and report.revision == self.revision and report.status != "started":
            return report.status
        if self.withdrawn == self.revision and self.withdrawal is WithdrawalReason.SITE_LOST:
            return "stopped"
        return None

    @property
    def run_began_at(self) -> datetime | None:
        """When the run under the latest placement started; None: it did not."""
        return self.began[1] if self.began is not None and self.began[0] == self.revision else None

    @property
    def run_span(self) -> tuple[datetime, datetime] | None:
        """The run under the latest placement, once it is over; None: it never started, or is under way.

        A run at a lost site counts until the site was given up.
        """
        start, end = self.run_began_at, self.end
        if start is None or end is None:
            return None
        report = self.report
        if report is not None and report.revision == self.revision and report.status != "started":
            return start, max(start, report.at)
        return start, max(start, self.withdrawn_at or start)

    @property
    def took_s(self) -> float:
        """The work that its runs did, once it has succeeded."""
        span = self.run_span
        return self.progress_s + (0.0 if span is None else (span[1] - span[0]).total_seconds())

    @property
    def used(self) -> Usage:
        """By the runs before the latest placement."""
        return total(self.runs)

    @property
    def live(self) -> bool:
        """Something runs, or may still start, under the latest placement."""
        return self.revision > 0 and self.end is None

    @property
    def waits_for_room(self) -> bool:
        """Whoever was chosen to make room for it still has to."""
        return bool(self.victims) and self.live and not self.started and self.withdrawn < self.revision

    @property
    def stays(self) -> bool:
        """It is live, and nobody asked to take it back or to end it."""
        return self.live and self.withdrawn < self.revision and not self.cancel_requested

    @property
    def failed_by_itself(self) -> bool:
        """The latest placement ended in a failure that counts: not by a node that died under it."""
        return self.end == "failed" and self.report is not None and self.report.reason is not WorkloadReason.NODE_LOST

    @property
    def moving(self) -> bool:
        """It was taken back to go on at another time or place: no reason to refuse it what it was promised."""
        return self.kept_s > 0.0 or (self.withdrawn == self.revision > 0 and self.withdrawal in _MOVES)

    @property
    def goes_on(self) -> bool:
        """It was stopped, not by a failure of its own, and nothing of its work was lost for good: what it was granted is still its."""
        return self.revision > 0 and self.end == "stopped" and (self.run_span is None or self.kept_s > 0.0)

    @property
    def kept_s(self) -> float:
        """The work that a new placement begins with: what the latest run kept, if there was one, else what those before it did."""
        report = self.report
        ran = report is not None and report.revision == self.revision and report.started_at is not None
        return report.progress_s if ran and report is not None and report.status != "started" else self.progress_s

    @property
    def ran_at(self) -> str | None:
        """Where it ran last, and its data lies; None: it never ran."""
        if self.run_began_at is not None:
            return self.site
        return self.runs[-1].site if self.runs else None

    def reason_after(self, first: PlacementReason) -> PlacementReason:
        """Why a new placement is made: ``first`` for the first one, else what ended the one before."""
        if not self.revision:
            return first
        if self.withdrawn == self.revision and (reason := _AFTER.get(self.withdrawal)) is not None:
            return reason
        return PlacementReason.RESUMED if self.end == "stopped" and self.kept_s else PlacementReason.RETRY

    @property
    def next_attempt(self) -> int:
        """The attempt that a new placement would be."""
        return self.attempt + 1 if self.failed_by_itself else self.attempt

    @property
    def next_revision(self) -> int:
        """Higher than any that anybody has used for this job."""
        return max(self.revision, self.withdrawn, self.report.revision if self.report else 0) + 1

    @property
    def avoid(self) -> str | None:
        """The site that the next placement should not be at if there is another: it was stuck there, or refused."""
        if self.withdrawn == self.revision and self.withdrawal is WithdrawalReason.STUCK:
            return self.site
        if self.end == "failed" and self.report is not None and self.report.reason is WorkloadReason.REJECTED:
            return self.site
        return None

    def merge(
        self, event: JobSubmitted | JobCancellationRequested | JobPlaced | PlacementWithdrawn | PlacementDeferred
    ) -> None:
        """Take over what an event says beyond what is known."""
        if self.spec is None:
            self.tenant, self.spec, self.submitted_at = event.tenant, event.spec, event.submitted_at
        match event:
            case JobSubmitted():
                pass
            case JobCancellationRequested():
                self.cancel_requested = True
            case JobPlaced():
                self._merge_placement(event)
            case PlacementWithdrawn():
                # Compaction keeps only the last record of a site and job: a withdrawal may stand for its placement.
                self._merge_placement(event)
                self._merge_withdrawal(event)
            case PlacementDeferred():
                known = self.deferral
                if known is None or (event.revision, event.decided_at) > (known.revision, known.decided_at):
                    self.deferral = event

    def _merge_relief(self, event: JobPlaced | PlacementWithdrawn) -> None:
        """Both say it: compaction may have dropped the withdrawal of a job that came back to the same site."""
        if event.reason in (PlacementReason.PRICE_BOUND, WithdrawalReason.PRICE_BOUND):
            self.relieved_at = max(self.relieved_at or event.decided_at, event.decided_at)

    def _merge_placement(self, event: JobPlaced | PlacementWithdrawn) -> None:
        self._merge_relief(event)
        start_at, data_from, cost, victims = None, None, None, ()
        if isinstance(event, JobPlaced):
            start_at, data_from, cost, victims = event.start_at, event.data_from, event.cost, event.victims
        if event.revision > self.revision:
            self.revision, self.site, self.attempt = event.revision, event.site, event.attempt
            self.progress_s, self.runs, self.data_at = event.progress_s, event.runs, event.data_at
        elif event.revision != self.revision or self.start_at is not None:
            return
        self.start_at, self.data_from, self.cost, self.victims = start_at, data_from, cost, victims

    def _merge_withdrawal(self, event: PlacementWithdrawn) -> None:
        lost_since = event.revision == self.withdrawn and event.reason is WithdrawalReason.SITE_LOST
        if event.revision > self.withdrawn or lost_since:
            self.withdrawn, self.withdrawal = event.revision, event.reason
            self.withdrawn_at = event.decided_at

    def merge_report(self, event: WorkloadReported) -> None:
        """Keep the report of the highest revision; under one revision an end is final, and `started` precedes it."""
        self._merge_start(event)
        known = self.report
        newer = known is None or event.revision > known.revision
        if newer or (
            known is not None
            and event.revision == known.revision
            and known.status == "started"
            and event.status != "started"
        ):
            self.report = event

    def _merge_start(self, event: WorkloadReported) -> None:
        """An end names its start too; where it does not, the `started` before it did."""
        at = event.started_at or (event.at if event.status == "started" else None)
        if at is None:
            return
        if self.began is None or (event.revision, -at.timestamp()) > (self.began[0], -self.began[1].timestamp()):
            self.began = (event.revision, at)
