"""What the meters of a run's pods read, and how much power that was when.

The simple algorithm: a counter's energy between two readings is their difference, and after a reset what it has counted since; a
gauge's is the mean of the two times what lies between, if that is not too long. Between two readings that energy is taken to have been drawn
evenly. Of each pod and part (processors, accelerators) that no meter covers at a moment, the site's power model holds.

Readings of one meter come in order and may be repeated: one that is not later than the last says nothing new, so none counts twice. Of
each hour only the last reading is kept: what is billed by the hour is not changed by that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from math import floor
from typing import TYPE_CHECKING

from solyx.energy import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from solyx.events import WorkloadEnergyRead

_GAUGE_GAP_S = 300.0  # between two readings of a gauge that are farther apart nobody knows the power
_KEPT_S = (
    86400.0  # readings of a job that nobody knows are kept for so long: its placement may be read later than they are
)

_PARTS = {"cpu": ("cpu",), "gpu": ("gpu",), "all": ("cpu", "gpu")}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A stretch of time, the power that meters read in it, in W, and the shares of pods whose parts they covered."""

    start_s: float
    end_s: float
    measured_w: float
    pods: dict[str, int]  # by part: how many pods' meters covered it


@dataclass(slots=True)
class Trace:
    """One meter of one pod: energy in J since its first reading, at the ends of stretches."""

    pod: str
    part: str
    points: list[tuple[float, float, bool]] = field(
        default_factory=list[tuple[float, float, bool]]
    )  # time, J, and whether what lies before it is known
    counted_j: float = 0.0  # as the counter stood last
    drawn_w: float = 0.0  # as the gauge stood last

    def add(self, event: WorkloadEnergyRead) -> None:
        """A later reading; an earlier one, or the same, changes nothing."""
        at_s = event.at.timestamp()
        if not self.points:
            self._note(event)
            self.points.append((at_s, 0.0, False))
            return
        last_s, total_j, _ = self.points[-1]
        if at_s <= last_s:
            return
        known = True
        if event.joules is not None:
            more_j = event.joules - self.counted_j if event.joules >= self.counted_j else event.joules
        else:
            known = at_s - last_s <= _GAUGE_GAP_S
            more_j = (self.drawn_w + (event.watts or 0.0)) / 2.0 * (at_s - last_s) if known else 0.0
        self._note(event)
        same_hour = floor(last_s / HOUR_S) == floor(at_s / HOUR_S)
        if known and same_hour and self.points[-1][2]:
            self.points.pop()
        self.points.append((at_s, total_j + more_j, known))

    def _note(self, event: WorkloadEnergyRead) -> None:
        self.counted_j, self.drawn_w = event.joules or 0.0, event.watts or 0.0

    def stretches(self, start_s: float, end_s: float) -> Iterable[tuple[float, float, float]]:
        """Begin, end and power of what is known within a span."""
        for (before_s, before_j, _), (after_s, after_j, known) in pairwise(self.points):
            begin_s, until_s = max(before_s, start_s), min(after_s, end_s)
            if known and until_s > begin_s:
                yield begin_s, until_s, (after_j - before_j) / (after_s - before_s)


class Readings:
    """The traces of all runs that are not billed yet."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[tuple[int, str], Trace]] = {}

    def fold(self, event: WorkloadEnergyRead) -> None:
        """A reading of a run's meter."""
        traces = self._jobs.setdefault(event.job_id, {})
        trace = traces.setdefault((event.revision, event.meter), Trace(event.pod or event.meter, event.part))
        trace.add(event)

    def forget(self, job_id: str) -> None:
        """The job is over and billed."""
        self._jobs.pop(job_id, None)

    def expire(self, known: Container[str], now_s: float) -> None:
        """Forget readings of jobs that nobody ever spoke of."""
        for job_id in [job_id for job_id in self._jobs if job_id not in known]:
            if all(trace.points[-1][0] < now_s - _KEPT_S for trace in self._jobs[job_id].values()):
                del self._jobs[job_id]

    def of(self, job_id: str, revision: int) -> list[Trace]:
        """The traces of one run."""
        return [trace for (of, _), trace in self._jobs.get(job_id, {}).items() if of == revision]


def drawn(traces: Sequence[Trace], start_s: float, end_s: float) -> list[Drawn]:
    """The span in stretches in which the same meters are known, first to last, without a gap."""
    turns: list[tuple[float, int, Trace, float]] = []
    for trace in traces:
        for begin_s, until_s, power_w in trace.stretches(start_s, end_s):
            turns += [(begin_s, 1, trace, power_w), (until_s, -1, trace, -power_w)]
    turns.sort(key=lambda turn: turn[0])
    found: list[Drawn] = []
    at_s, measured_w, meters = start_s, 0.0, Counter[tuple[str, str]]()
    for turn_s, sign, trace, change_w in turns:
        if turn_s > at_s:
            found.append(_drawn(at_s, turn_s, measured_w, meters))
            at_s = turn_s
        measured_w += change_w
        for part in _PARTS[trace.part]:
            meters[part, trace.pod] += sign
    if end_s > at_s:
        found.append(_drawn(at_s, end_s, 0.0, Counter()))
    return found


def _drawn(start_s: float, end_s: float, measured_w: float, meters: Counter[tuple[str, str]]) -> Drawn:
    covered = Counter(part for (part, _), count in meters.items() if count > 0)
    # Sums of what comes and goes are rounded: what no meter covers is 0, and nothing is below it.
    return Drawn(start_s, end_s, max(0.0, measured_w) if covered else 0.0, dict(covered))
