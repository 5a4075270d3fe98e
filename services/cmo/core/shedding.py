"""Which work makes room when the grid asks a site to save power.

The simple algorithm: put the work that may be disturbed in order, the least valuable first, and take from it until what is left
fits under the cap; then go back from the most valuable that was taken and keep whatever fits after all.

What may be done to a job, the mildest first:

1. **delay** a start that is planned or queued, if its deadline allows to wait, or another site can take it;
2. **suspend or move** what runs and writes checkpoints, if its deadline is kept;
3. the same where the deadline of that (unprotected) job is not kept;
4. **stop** what may be preempted and keeps no progress.

Protected work (neither suspendable nor preemptible) is never stopped once it runs, and is delayed only where its deadline is kept. Within
a step the order is that of value: priority, slack to the deadline, work that has to be done again; of equals the largest, so that few are
disturbed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Step(IntEnum):
    """What is done to a job, the mildest first."""

    DELAY = 1
    SUSPEND = 2
    SUSPEND_LATE = 3  # its own deadline is not kept
    STOP = 4


@dataclass(frozen=True, slots=True)
class Load:
    """What a live job takes of a site's power, and what it can bear."""

    job_id: str
    power_w: float
    priority: int
    running: bool  # else: planned or queued, and about to start
    suspendable: bool
    preemptible: bool
    keeps_deadline: bool  # if it makes room: by waiting for the end of the window, or at another site
    slack_s: float  # to its deadline; infinite without one
    lost_s: float  # work that has to be done again

    @property
    def protected(self) -> bool:
        """Neither suspendable nor preemptible."""
        return not self.suspendable and not self.preemptible

    @property
    def step(self) -> Step | None:
        """What may be done to it; None: nothing."""
        if not self.running:
            return Step.DELAY if self.keeps_deadline or not self.protected else None
        if self.suspendable:
            return Step.SUSPEND if self.keeps_deadline else Step.SUSPEND_LATE
        return Step.STOP if self.preemptible else None


@dataclass(frozen=True, slots=True)
class Shed:
    """Who makes room, the least valuable first, and what is left."""

    steps: tuple[tuple[str, Step], ...]
    left_w: float
    short_w: float  # what is left above the cap: only work that nothing may be done to
    reason: str  # in words, why the cap is not reached; empty when it is


def shed(loads: Iterable[Load], room_w: float) -> Shed:
    """Who makes room so that the loads fit into ``room_w`` (the cap less the idle floor)."""
    known = list(loads)
    left_w = sum(load.power_w for load in known)
    movable = sorted((load for load in known if load.step is not None and load.power_w > 0), key=_value)
    taken: list[Load] = []
    for load in movable:
        if left_w <= room_w:
            break
        taken.append(load)
        left_w -= load.power_w
    for load in reversed(taken.copy()):
        if left_w + load.power_w <= room_w:
            taken.remove(load)
            left_w += load.power_w
    left_w = sum(load.power_w for load in known) - sum(load.power_w for load in taken)
    short_w = max(0.0, left_w - room_w)
    steps = tuple((load.job_id, load.step) for load in taken if load.step is not None)
    return Shed(steps, left_w, short_w, _why_short(known, room_w) if short_w else "")


def _value(load: Load) -> tuple[int, int, float, float, float, str]:
    assert load.step is not None
    return (load.step, load.priority, -load.slack_s, load.lost_s, -load.power_w, load.job_id)


def _why_short(loads: list[Load], room_w: float) -> str:
    kept = [load for load in loads if load.step is None]
    kept_w = sum(load.power_w for load in kept)
    if room_w < 0:
        return f"the cap is {-room_w:.0f} W below what the idle nodes take"
    running = sum(load.running for load in kept)
    words = f"{running} running jobs may be neither suspended nor preempted"
    if running < len(kept):
        words += f" and {len(kept) - running} must start to keep their deadlines"
    return f"{words}: {kept_w:.0f} W of the {room_w:.0f} W above the idle floor"
