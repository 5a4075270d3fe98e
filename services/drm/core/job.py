"""What is known of one job at one site, merged by revision from placements, own allocations and reports, in any order.

Every field only grows, so events of different topics commute and repeats change nothing. What follows from the fields is
derived when it is asked for, never stored by the event that happened to come last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.drm.model import Holding
from solyx.events import DeferralReason, JobFinished, JobPlaced, ReleaseReason, WorkloadReason

if TYPE_CHECKING:
    from services.drm.core.queue import Waiting
    from solyx.events import AllocationDeferred, AllocationReleased, JobAllocated, PlacementWithdrawn, WorkloadReported

_ENDED_BY_ITSELF = (ReleaseReason.FINISHED, ReleaseReason.FAILED)


class JobState:
    """One job at one site. Revisions are 0 where nothing of that sort is known."""

    __slots__ = (
        "allocated",
        "charged",
        "deferred",
        "deferred_revision",
        "end_status",
        "ended",
        "finished",
        "grace",
        "holding",
        "job_id",
        "never_held",
        "node_lost",
        "placed",
        "placed_revision",
        "released",
        "released_reason",
        "reported",
        "started",
        "tenant",
        "to_withdraw",
        "waiting",
        "withdrawn",
    )

    def __init__(self, job_id: str, tenant: str) -> None:
        self.job_id, self.tenant = job_id, tenant
        self.grace: tuple[int, float] = (0, 0.0)  # revision, and of its spec: from being told to stop to being killed
        self.placed_revision = 0
        self.placed: JobPlaced | None = (
            None  # of that revision, while it may still be admitted; its spec is the largest part
        )
        self.withdrawn = 0
        self.to_withdraw: frozenset[int] = frozenset()  # withdrawn revisions that were not released yet
        self.finished: JobFinished | None = None
        self.allocated = 0
        self.holding: Holding | None = None  # of ``allocated``, until it is over and released
        self.released = 0
        self.released_reason: ReleaseReason | None = None
        self.never_held = 0  # this revision was released without ever having been allocated
        self.deferred_revision = 0
        self.deferred: frozenset[DeferralReason] = frozenset()
        self.reported = 0  # highest revision of any report
        self.started: tuple[int, float] = (0, 0.0)  # revision and Unix time
        self.ended = 0
        self.end_status = ""  # of that revision: succeeded, failed or stopped
        self.node_lost: tuple[int, float, str] = (0, 0.0, "")  # revision, Unix time and message of a loss of its node
        self.charged: Holding | None = None  # derived: what the site's capacity is charged with
        self.waiting: Waiting | None = None  # derived: its place in the queue

    # ------------------------------------------------------------------------------------------------------ facts

    def on_placed(self, event: JobPlaced) -> None:
        """The CMO put the job here."""
        self._learn_grace(event)
        if event.revision > self.placed_revision:
            self.placed_revision, self.placed = event.revision, event
            self._drop_placement()

    def on_withdrawn(self, event: PlacementWithdrawn) -> None:
        """The CMO took a placement back."""
        self._learn_grace(event)
        self.withdrawn = max(self.withdrawn, event.revision)
        if event.revision > self.released:
            self.to_withdraw |= {event.revision}
        self._drop_placement()

    def on_finished(self, event: JobFinished) -> None:
        """The job is over, whatever its last placement was."""
        self.finished = event
        self._drop_placement()

    def on_allocated(self, event: JobAllocated) -> None:
        """An own decision, read back."""
        self._learn_grace(event)
        if event.revision > self.allocated:
            self.allocated = event.revision
            self.holding = Holding(event)
            self._drop_placement()

    def _learn_grace(self, event: JobPlaced | PlacementWithdrawn | JobAllocated) -> None:
        self.grace = max(self.grace, (event.revision, event.spec.grace_period_s))

    def on_deferred(self, event: AllocationDeferred) -> None:
        """An own decision, read back. Of several the topic may have kept the last, which repeats the reasons of the others."""
        if event.revision > self.deferred_revision:
            self.deferred_revision, self.deferred = event.revision, frozenset()
        if event.revision == self.deferred_revision:
            self.deferred |= {event.reason, *event.told}

    def on_released(self, event: AllocationReleased) -> None:
        """An own decision, read back."""
        if event.revision > self.released:
            self._release(event.revision, event.reason)
            self._drop_placement()

    def on_reported(self, event: WorkloadReported) -> None:
        """The actuator says what became of the workload."""
        revision = event.revision
        self.reported = max(self.reported, revision)
        self._drop_placement()
        if event.status == "started":
            if revision > self.started[0]:
                self.started = (revision, (event.started_at or event.at).timestamp())
            return
        if revision > self.ended:
            self.ended, self.end_status = revision, event.status
        if event.reason is WorkloadReason.NODE_LOST and revision > self.node_lost[0]:
            self.node_lost = (revision, event.at.timestamp(), event.message)

    def _drop_placement(self) -> None:
        """A placement that was answered, taken back or outlived is admitted no more."""
        answered = max(self.withdrawn, self.allocated, self.released, self.reported)
        if self.finished is not None or self.placed_revision <= answered:
            self.placed = None

    # ------------------------------------------------------------------------------------------------ what follows

    def is_over(self, revision: int) -> bool:
        """Whether nothing runs under ``revision`` any more.

        A later report, allocation or placement at this site proves it as well as the report itself: nothing is placed,
        admitted or started anew before its predecessor ended. The proof may come first, or alone: topics overtake each
        other, and compaction keeps only the last record of a key.
        """
        return (
            self.ended >= revision
            or self.reported > revision
            or self.allocated > revision
            or self.released > revision
            or self.finished is not None
            or self.placed_revision > revision
            or (self.released == revision and self.released_reason in _ENDED_BY_ITSELF)
        )

    @property
    def stopping(self) -> bool:
        """It was told to stop and still holds what it held."""
        return self.holding is not None and self.released >= self.holding.revision

    @property
    def unknown_holding(self) -> bool:
        """Told to stop and not over, but compaction has dropped the record of what it holds, if it holds anything."""
        return self.released > self.allocated and self.released != self.never_held and not self.is_over(self.released)

    def due_releases(self) -> list[tuple[int, ReleaseReason]]:
        """What must be released now, lowest revision first."""
        due: dict[int, ReleaseReason] = {}
        holding = self.holding
        if holding is not None and holding.revision > self.released:
            reason = self._release_reason(holding.revision)
            if reason is not None:
                due[holding.revision] = reason
        for revision in self.to_withdraw:
            due.setdefault(revision, ReleaseReason.WITHDRAWN)
        return sorted(due.items())

    def _release_reason(self, revision: int) -> ReleaseReason | None:
        if self.ended == revision and self.end_status == "succeeded":
            return ReleaseReason.FINISHED
        if self.ended == revision and self.end_status == "failed":
            return ReleaseReason.FAILED
        if self.withdrawn >= revision:
            return ReleaseReason.WITHDRAWN
        if self.finished is not None and self.finished.revision == revision and self.finished.outcome == "succeeded":
            return ReleaseReason.FINISHED
        return ReleaseReason.FAILED if self.is_over(revision) else None

    # ---------------------------------------------------------------------------------------------- own decisions

    def note_release(self, revision: int, reason: ReleaseReason) -> None:
        """A release was decided. Unlike one that is read back, it is known whether there was anything to release."""
        if revision > self.allocated:
            self.never_held = revision
        self._release(revision, reason)

    def _release(self, revision: int, reason: ReleaseReason) -> None:
        self.released, self.released_reason = revision, reason
        self.to_withdraw = frozenset(r for r in self.to_withdraw if r > revision)

    def note_allocation(self, holding: Holding) -> None:
        """An admission was decided."""
        self.allocated, self.holding = holding.revision, holding
        self.waiting = None
        self._drop_placement()

    def note_deferral(self, revision: int, reason: DeferralReason) -> tuple[DeferralReason, ...] | None:
        """A wait is explained: for which reasons it was before; None if for this one."""
        if revision != self.deferred_revision:
            self.deferred_revision, self.deferred = revision, frozenset()
        if reason in self.deferred:
            return None
        told = tuple(sorted(self.deferred))
        self.deferred |= {reason}
        return told

    @property
    def latest_revision(self) -> int:
        """The highest revision that anything known speaks of."""
        return max(
            self.placed_revision,
            self.withdrawn,
            self.allocated,
            self.released,
            self.reported,
            self.finished.revision if self.finished else 0,
        )
