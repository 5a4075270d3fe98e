"""What will become of a simulated workload, known when it is applied: a pure function of its allocation, the time and the outages.

Times are integers, microseconds of scenario time since 1970, so that an end and the next start compare exactly.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from services.actuator.model import Phase
from services.actuator.simulated.work import Checkpoints, Work, work_of
from solyx.events import JobAllocated, WorkloadReason

if TYPE_CHECKING:
    from collections.abc import Iterable

NODE_LOSS_DETECTED_S = 50
"""A workload bound to a dead node is given up after this long: the node monitor's grace period of Kubernetes 1.32 (40 s before)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def to_us(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - _EPOCH) // _US


def from_us(time_us: int) -> datetime:
    """The reverse of ``to_us``."""
    return _EPOCH + timedelta(microseconds=time_us)


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """A node is dead from ``from_us`` on and back at ``until_us``; what runs on it dies at ``from_us``."""

    node: str
    from_us: int
    until_us: int


class Chance(msgspec.Struct, frozen=True, kw_only=True):
    """How many workloads fail by themselves; which of them and when is decided by a hash of job, revision and seed."""

    failure_rate: float = 0.0  # share of the workloads, 0..1
    seed: int = 0

    def failure_point(self, job_id: str, revision: int) -> float | None:
        """The fraction of its duration after which a workload fails; None: it does not."""
        digest = hashlib.blake2b(f"{self.seed}/{job_id}/{revision}".encode(), digest_size=16).digest()
        drawn = int.from_bytes(digest[:8]) / 2**64
        return int.from_bytes(digest[8:]) / 2**64 if drawn < self.failure_rate else None


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """A workload's way: its first phase, and how and when it ends if nobody stops it."""

    phase: Phase  # running, or pending on a dead node
    due_us: int
    due_phase: Phase
    due_reason: WorkloadReason
    due_kept_us: int  # work that will be kept then, by this run and those before it
    work: Work
    message: str = ""


def course(
    allocation: JobAllocated, *, now_us: int, chance: Chance, checkpoints: Checkpoints, outages: Iterable[Outage]
) -> Course:
    """What becomes of a workload that is applied now.

    Raises:
        Unacceptable: the cluster refuses it for good.
    """
    work = work_of(allocation, checkpoints)
    nodes = {pod.node for pod in allocation.pods}
    ahead = [outage for outage in outages if outage.node in nodes and outage.until_us > now_us]
    for outage in ahead:
        if outage.from_us <= now_us:
            return Course(
                phase=Phase.PENDING,
                due_us=now_us + NODE_LOSS_DETECTED_S * 1_000_000,
                due_phase=Phase.FAILED,
                due_reason=WorkloadReason.NODE_LOST,
                due_kept_us=work.done_us,
                work=work,
                message=f"node {outage.node} is down",
            )
    end = _own_end(work, now_us, chance.failure_point(allocation.job_id, allocation.revision))
    first = min(ahead, key=lambda outage: outage.from_us, default=None)
    if first is None or first.from_us >= end.due_us:
        return end
    return Course(
        phase=Phase.RUNNING,
        due_us=first.from_us,
        due_phase=Phase.FAILED,
        due_reason=WorkloadReason.NODE_LOST,
        due_kept_us=work.kept_when_killed(first.from_us - now_us),
        work=work,
        message=f"node {first.node} died",
    )


def _own_end(work: Work, now_us: int, failure_point: float | None) -> Course:
    """How it ends if its nodes live: ``failure_point`` is a fraction of the work that is left."""
    if failure_point is None:
        return Course(
            phase=Phase.RUNNING,
            due_us=now_us + work.run_us,
            due_phase=Phase.SUCCEEDED,
            due_reason=WorkloadReason.COMPLETED,
            due_kept_us=work.kept_at_the_end,
            work=work,
        )
    ran_us = work.restart_us + max(1, int(failure_point * work.left_us))
    return Course(
        phase=Phase.RUNNING,
        due_us=now_us + ran_us,
        due_phase=Phase.FAILED,
        due_reason=WorkloadReason.EXIT_CODE,
        due_kept_us=work.kept_when_killed(ran_us),
        work=work,
        message="exit code 1 (simulated)",
    )
