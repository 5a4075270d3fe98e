"""Whether the runs of each job did its work: once, whole, and no more of it than there was time for. Pure.

The rules, over the runs of a job in the order of their revisions:

1. A run starts from no more than what earlier runs had kept (else work was left out), and from no less (else work that a
   checkpoint kept was done again), unless the earlier run's site was given up as lost: nobody could know what was kept there.
2. A run adds at most the time that it took.
3. A job that succeeded has done its whole work: what its label ``solyx.io/simulated-duration-s`` says, where it has one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from solyx.events import SIMULATED_DURATION_LABEL, PlacementWithdrawn, WithdrawalReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from solyx.events import JobAllocated, WorkloadReported

TOLERANCE_S = 0.01
"""Labels have milliseconds, clusters microseconds."""


def wrong_work(
    allocated: Mapping[tuple[str, int], JobAllocated],
    reports: Mapping[tuple[str, int], Sequence[WorkloadReported]],
    withdrawn: Iterable[PlacementWithdrawn],
) -> Iterable[str]:
    """Jobs whose runs' useful work does not add up, in words."""
    given_up = {(e.job_id, e.revision) for e in withdrawn if e.reason is WithdrawalReason.SITE_LOST}
    by_job: defaultdict[str, list[int]] = defaultdict(list)
    for job_id, revision in allocated:
        by_job[job_id].append(revision)
    for job_id, revisions in by_job.items():
        kept_s, sure = 0.0, True
        for revision in sorted(revisions):
            allocation, of_run = allocated[job_id, revision], reports.get((job_id, revision), ())
            name = f"{job_id} revision {revision} at {allocation.site}"
            if allocation.progress_s > kept_s + TOLERANCE_S:
                yield f"{name} started from {allocation.progress_s:.3f} s of work; only {kept_s:.3f} s had been kept"
            if sure and allocation.progress_s < kept_s - TOLERANCE_S:
                yield f"{name} started from {allocation.progress_s:.3f} s of work; {kept_s:.3f} s had been kept"
            yield from _wrong_run(name, allocation, of_run)
            kept_s = max((allocation.progress_s, *(report.progress_s for report in of_run)))
            sure = (job_id, revision) not in given_up and any(report.status != "started" for report in of_run)


def _wrong_run(name: str, allocation: JobAllocated, reports: Sequence[WorkloadReported]) -> Iterable[str]:
    end = next((report for report in reports if report.status != "started"), None)
    if end is None or end.started_at is None:
        return
    ran_s = (end.at - end.started_at).total_seconds()
    added_s = end.progress_s - allocation.progress_s
    if added_s > ran_s + TOLERANCE_S:
        yield f"{name} says that it did {added_s:.3f} s of work in {ran_s:.3f} s"
    whole = allocation.spec.labels.get(SIMULATED_DURATION_LABEL)
    if end.status != "succeeded" or whole is None:
        return
    done_s = end.progress_s if allocation.spec.suspendable else ran_s
    if abs(done_s - float(whole)) > TOLERANCE_S:
        yield f"{name} succeeded after {done_s:.3f} s of work; its whole work is {float(whole):.3f} s"
