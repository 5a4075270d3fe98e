"""The work of a simulated workload: what is left of it, and what of it a checkpoint keeps.

A job that is suspendable goes on from ``JobAllocated.progress_s``; going on takes a restart overhead first, in which nothing is
done. Told to stop, it writes a checkpoint, which takes the seconds of its label ``solyx.io/simulated-checkpoint-s``: if that
is within the grace period it keeps all that it had done when it was told. Killed without that (its node died, it failed, the
grace was too short) it keeps what its last periodic checkpoint has: one for each ``Checkpoints.interval_s`` of this run's work.
A job that is not suspendable keeps nothing and begins anew.

Times are microseconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from solyx.events import SIMULATED_CHECKPOINT_LABEL, SIMULATED_DURATION_LABEL

if TYPE_CHECKING:
    from solyx.events import JobAllocated


class Unacceptable(Exception):  # noqa: N818 - says what the manifest is
    """The manifest makes no sense; the message says what to correct."""


class Checkpoints(msgspec.Struct, frozen=True, kw_only=True):
    """How suspendable workloads of a simulated cluster keep their work."""

    restart_overhead_s: float = 0.0  # from the start of a workload that goes on to its first useful second
    interval_s: float = 600.0  # work between two periodic checkpoints


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One run's share of a job's work."""

    whole_us: int
    done_us: int = 0  # by earlier runs, and kept
    restart_us: int = 0  # of this run, before it goes on
    write_us: int = 0  # for a checkpoint, after it was told to stop
    interval_us: int = 0  # between periodic checkpoints; 0: it is not suspendable and keeps nothing

    @property
    def left_us(self) -> int:
        """What this run has to do."""
        return max(1, self.whole_us - self.done_us)

    @property
    def run_us(self) -> int:
        """How long this run takes if nothing ends it before."""
        return self.restart_us + self.left_us

    @property
    def kept_at_the_end(self) -> int:
        """Of a workload that succeeded."""
        return self.whole_us if self.interval_us else 0

    def done_after(self, ran_us: int) -> int:
        """All that is done when this run has taken ``ran_us``."""
        return min(self.whole_us, self.done_us + max(0, ran_us - self.restart_us))

    def kept_when_told(self, ran_us: int, grace_us: int) -> int:
        """What is kept when it was told to stop after ``ran_us``."""
        if self.write_us > grace_us:
            return self.kept_when_killed(ran_us)
        return self.done_after(ran_us) if self.interval_us else 0

    def kept_when_killed(self, ran_us: int, *, at_most_us: int | None = None) -> int:
        """What is kept when it ends after ``ran_us`` without a checkpoint of its own; ``at_most_us`` is all that it had done."""
        if not self.interval_us:
            return 0
        done_us = self.done_after(ran_us)
        new_us = (done_us if at_most_us is None else min(done_us, at_most_us)) - self.done_us
        return self.done_us + new_us - new_us % self.interval_us


def work_of(allocation: JobAllocated, checkpoints: Checkpoints) -> Work:
    """What an allocation's workload has to do.

    Raises:
        Unacceptable: a label is not a number of seconds.
    """
    spec = allocation.spec
    whole_us = max(1, _label_us(allocation, SIMULATED_DURATION_LABEL, spec.duration_estimate_s, positive=True))
    if not spec.suspendable:
        return Work(whole_us=whole_us)
    done_us = min(whole_us, round(allocation.progress_s * 1e6))
    return Work(
        whole_us=whole_us,
        done_us=done_us,
        restart_us=round(checkpoints.restart_overhead_s * 1e6) if done_us else 0,
        write_us=_label_us(allocation, SIMULATED_CHECKPOINT_LABEL, 0.0, positive=False),
        interval_us=max(1, round(checkpoints.interval_s * 1e6)),
    )


def _label_us(allocation: JobAllocated, name: str, default_s: float, *, positive: bool) -> int:
    label = allocation.spec.labels.get(name)
    try:
        seconds = default_s if label is None else float(label)
    except ValueError:
        seconds = math.nan
    if not (seconds > 0 or (seconds == 0 and not positive)) or seconds == math.inf:
        what = "a positive number of seconds" if positive else "a number of seconds of at least 0"
        raise Unacceptable(f"label {name}: {label!r} is not {what}")
    return round(seconds * 1e6)
