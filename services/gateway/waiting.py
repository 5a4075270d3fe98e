"""Why a job does not run yet, and what it asks for in vain where it is, from its history. Pure.

The states `submitted` and `placed` say that it waits; the decision that explains it is somewhere in the history:

1. without a placement: the CMO's deferral that its state's reason names; else what took its last placement from it;
2. placed: the DRM's latest deferral under that revision; else the start time that was chosen, with the arrival of its data.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from services.gateway.model import Breach, JobSummary, Wait
from solyx.events import (
    AllocationDeferred,
    AllocationReleased,
    JobPlaced,
    LatencyBoundReported,
    LatencyReason,
    PlacementDeferred,
    PlacementWithdrawn,
    ReleaseReason,
    WorkloadReported,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.model import HistoryEntry
    from solyx.events import Event

_AT_A_SITE = frozenset({"placed", "allocated", "running"})
_TAKEN = frozenset({ReleaseReason.PREEMPTED, ReleaseReason.DRAINED, ReleaseReason.CONSOLIDATED})


class _Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Those of an entry that explain a wait."""

    detail: str = ""
    until: datetime | None = None
    start_at: datetime | None = None
    since: datetime | None = None
    data_at: datetime | None = None
    progress_s: float = 0.0


_FIGURES = msgspec.json.Decoder(_Figures)


def why_it_waits(job: JobSummary, history: Sequence[HistoryEntry]) -> Wait | None:
    """None: it does not wait, or nothing was decided about it yet."""
    match job.state:
        case "submitted":
            return _without_placement(job, history)
        case "placed":
            return _until_it_starts(job, history)
        case _:
            return None


def broken_bound(job: JobSummary, history: Sequence[HistoryEntry]) -> Breach | None:
    """None: it is at no site, or its site was not told to be too far, or is near enough again."""
    told = _of(history, LatencyBoundReported, job.revision)
    if job.state not in _AT_A_SITE or not told or told[-1].reason == LatencyReason.WITHIN:
        return None
    figures = _FIGURES.decode(told[-1].figures)
    return Breach(reason=told[-1].reason, detail=figures.detail, since=figures.since or told[-1].time)


def _without_placement(job: JobSummary, history: Sequence[HistoryEntry]) -> Wait | None:
    deferred = [entry for entry in _of(history, PlacementDeferred, job.revision) if entry.reason == job.reason]
    if deferred:
        figures = _FIGURES.decode(deferred[-1].figures)
        return Wait(reason=job.reason, detail=figures.detail, since=deferred[-1].time, until=figures.until)
    releases = [entry for entry in _of(history, AllocationReleased, job.revision) if entry.reason in _TAKEN]
    cause = (*releases, *_of(history, PlacementWithdrawn, job.revision))
    if not cause:
        return None if job.revision == 0 else Wait(reason=job.reason, since=job.state_at)
    kept_s = max(
        (_FIGURES.decode(entry.figures).progress_s for entry in _of(history, WorkloadReported, job.revision)),
        default=0.0,
    )
    told = _FIGURES.decode(cause[-1].figures).detail
    detail = "; ".join(words for words in (told, f"{kept_s:.0f} s of its work are kept" if kept_s else "") if words)
    return Wait(reason=cause[-1].reason, detail=detail, since=job.state_at)


def _until_it_starts(job: JobSummary, history: Sequence[HistoryEntry]) -> Wait | None:
    deferred = _of(history, AllocationDeferred, job.revision)
    if deferred:
        last = deferred[-1]
        return Wait(reason=last.reason, detail=_FIGURES.decode(last.figures).detail, since=last.time)
    placed = _of(history, JobPlaced, job.revision)
    if not placed:
        return None
    figures = _FIGURES.decode(placed[-1].figures)
    start_at, data_at = figures.start_at, figures.data_at
    detail = "for its start"
    if data_at is not None:
        at = data_at.isoformat(timespec="minutes")
        detail = "for its data" if data_at == start_at else f"for its start; its data is there at {at}"
    return Wait(reason=placed[-1].reason, detail=detail, since=placed[-1].time, until=start_at)


def _of(history: Sequence[HistoryEntry], kind: type[Event], revision: int) -> list[HistoryEntry]:
    return [entry for entry in history if entry.type == kind.TYPE and (entry.revision or 0) == revision]
