"""What will become of a simulated workload, known when it is applied: a pure function of its allocation, the time and the outages.

Times are integers, microseconds of scenario time since 1970, so that an end and the next start compare exactly.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from services.actuator.model import Phase
from solyx.events import SIMULATED_DURATION_LABEL, JobAllocated, WorkloadReason

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
    message: str = ""


class Unacceptable(Exception):  # noqa: N818 - says what the manifest is
    """The manifest makes no sense; the message says what to correct."""


def duration_us(allocation: JobAllocated) -> int:
    """How long the workload runs.

    Raises:
        Unacceptable: the label is not a positive number of seconds.
    """
    label = allocation.spec.labels.get(SIMULATED_DURATION_LABEL)
    try:
        duration_s = allocation.spec.duration_estimate_s if label is None else float(label)
    except ValueError:
        duration_s = math.nan
    if not 0 < duration_s < math.inf:
        raise Unacceptable(f"label {SIMULATED_DURATION_LABEL}: {label!r} is not a positive number of seconds")
    return max(1, round(duration_s * 1e6))


def course(allocation: JobAllocated, *, now_us: int, chance: Chance, outages: Iterable[Outage]) -> Course:
    """What becomes of a workload that is applied now.

    Raises:
        Unacceptable: the cluster refuses it for good.
    """
    duration = duration_us(allocation)
    nodes = {pod.node for pod in allocation.pods}
    ahead = [outage for outage in outages if outage.node in nodes and outage.until_us > now_us]
    for outage in ahead:
        if outage.from_us <= now_us:
            return Course(
                phase=Phase.PENDING,
                due_us=now_us + NODE_LOSS_DETECTED_S * 1_000_000,
                due_phase=Phase.FAILED,
                due_reason=WorkloadReason.NODE_LOST,
                message=f"node {outage.node} is down",
            )
    point = chance.failure_point(allocation.job_id, allocation.revision)
    if point is None:
        end = Course(
            phase=Phase.RUNNING,
            due_us=now_us + duration,
            due_phase=Phase.SUCCEEDED,
            due_reason=WorkloadReason.COMPLETED,
        )
    else:
        end = Course(
            phase=Phase.RUNNING,
            due_us=now_us + max(1, int(point * duration)),
            due_phase=Phase.FAILED,
            due_reason=WorkloadReason.EXIT_CODE,
            message="exit code 1 (simulated)",
        )
    first = min(ahead, key=lambda outage: outage.from_us, default=None)
    if first is None or first.from_us >= end.due_us:
        return end
    return Course(
        phase=Phase.RUNNING,
        due_us=first.from_us,
        due_phase=Phase.FAILED,
        due_reason=WorkloadReason.NODE_LOST,
        message=f"node {first.node} died",
    )
