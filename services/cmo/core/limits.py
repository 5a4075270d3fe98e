"""How late a job may start, by its owner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

from services.cmo.core.ledger import SLOT_S
from services.cmo.model import Refuse
from solyx.events import FinishReason

if TYPE_CHECKING:
    from services.cmo.core.jobs import Job
    from solyx.events import JobSpec


@dataclass(frozen=True, slots=True)
class Limit:
    """The latest start that the job's owner allows."""

    latest_s: float
    words: str  # empty: there is no limit


def limit_of(job: Job, spec: JobSpec, length_s: float, done_s: float | None = None) -> Limit:
    """Of a job that has run before, what it waited counts, and not what it did."""
    assert job.submitted_at is not None
    if spec.deadline is not None:
        words = f"the deadline {iso(spec.deadline.timestamp())}"
        # By the owner's figure where that is longer than what was learned: a promise is kept for what was asked.
        asked_s = spec.duration_estimate_s - (job.kept_s if done_s is None else done_s)
        return Limit(spec.deadline.timestamp() - max(length_s, asked_s), words)
    if spec.max_delay_s is not None:
        kept_s = job.kept_s if done_s is None else done_s
        words = f"the maximum delay of {spec.max_delay_s / SLOT_S:.4g} h"
        return Limit(job.submitted_at.timestamp() + spec.max_delay_s + kept_s, words)
    return Limit(inf, "")


def slack_s(job: Job, spec: JobSpec, left_s: float, now_s: float) -> float:
    """How much later than now it may begin what is left; infinite without a limit."""
    if spec.deadline is not None:
        return spec.deadline.timestamp() - left_s - now_s
    if spec.max_delay_s is not None and job.run_began_at is None and job.submitted_at is not None:
        return job.submitted_at.timestamp() + spec.max_delay_s + job.kept_s - now_s
    return inf


def done_s(job: Job, spec: JobSpec, now_s: float, restart_s: float) -> float:
    """The work that is kept when it stops now."""
    if job.run_began_at is None:
        return job.progress_s
    if not spec.suspendable:
        return 0.0
    lost_s = restart_s if job.progress_s else 0.0
    return job.progress_s + max(0.0, now_s - job.run_began_at.timestamp() - lost_s)


def is_protected(spec: JobSpec) -> bool:
    """Neither suspendable nor preemptible."""
    return not spec.suspendable and not spec.preemptible


def is_too_late(spec: JobSpec, now_s: float) -> bool:
    """Not even a start now, at the owner's length, would keep the deadline."""
    return spec.deadline is not None and spec.deadline.timestamp() - spec.duration_estimate_s < now_s


def too_late(spec: JobSpec, now_s: float) -> Refuse:
    """The refusal, with the figures."""
    assert spec.deadline is not None
    left_h = (spec.deadline.timestamp() - now_s) / SLOT_S
    away = f"{left_h:.3g} h away" if left_h > 0 else f"{-left_h:.3g} h ago"
    return Refuse(
        reason=FinishReason.DEADLINE_PASSED,
        message=f"needs {spec.duration_estimate_s / SLOT_S:.3g} h; the deadline {iso(spec.deadline.timestamp())} is {away}",
    )


def iso(moment_s: float) -> str:
    """A moment, to the minute."""
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="minutes")
