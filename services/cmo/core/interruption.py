"""The cheapest hours for a job that may pause.

The simple algorithm: of the hours until the job must be done, take the cheapest ones in which there is room until its work is
covered ("wait awhile", Wiesner et al., "Let's wait awhile", Middleware 2021, §4.3: interrupting workloads), at each site by itself;
a restart after a pause costs some work again, so a plan that pauses is taken only where it beats the one that does not.

Delay is charged to each hour of work in proportion: an hour of work that is done t hours from now bears t / W of the price of delay,
W being the work left. Shifting the whole plan by an hour then costs an hour's delay, as it does for a run in one piece
(the mean-busy-date relaxation of completion times, Goemans et al., "Single machine scheduling with release dates", 2002, §2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.ledger import SLOT_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.ledger import Stretch

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_LEAST_FILL_H = 1e-6


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of a plan: slot 0 is what is left of the present hour, slot k the k-th full hour."""

    now_s: float
    work_h: float
    delay_eur_per_h: float
    room_h: Floats  # of each slot, cut off at the latest end
    late_h: Floats  # from now to the beginning of each slot

    @classmethod
    def until(cls, now_s: float, work_h: float, slack_h: float, delay_eur_per_h: float) -> Hours:
        """The slots between now and the end of the work and its slack."""
        turn_h = 1.0 - now_s % SLOT_S / SLOT_S
        end_h = work_h + max(0.0, slack_h)
        count = 1 if end_h <= turn_h else 1 + int(np.ceil(end_h - turn_h))
        late = turn_h + np.arange(-1.0, count - 1)
        late[0] = 0.0
        room = np.ones(count)
        room[0] = turn_h
        room[-1] = end_h - late[-1]
        return cls(now_s, work_h, delay_eur_per_h, room, late)

    @property
    def tilt(self) -> Floats:
        """EUR of delay for an hour of work in each slot."""
        return self.late_h * (self.delay_eur_per_h / self.work_h)

    def fill(self, costs: Floats, *, begin: bool = False) -> tuple[Floats, Floats]:
        """The cheapest way to do the work at each site: EUR by site, and hours over (site, slot); infinite where it cannot be done.

        ``costs`` are EUR for an hour of work over (site, slot), infinite where there is no room. ``begin``: slot 0 is taken whatever
        it costs.
        """
        wished = costs
        if begin:
            wished = costs.copy()
            wished[:, 0] = -inf
        order = np.argsort(wished, axis=1, kind="stable")
        room = self.room_h[order]
        taken = np.minimum(np.maximum(self.work_h - (np.cumsum(room, axis=1) - room), 0.0), room)
        fill = np.zeros_like(room)
        np.put_along_axis(fill, order, taken, axis=1)
        finite = np.where(fill > 0.0, costs, 0.0)
        total = (finite * fill).sum(axis=1) - self._undelayed_eur()
        total[fill.sum(axis=1) < self.work_h - _LEAST_FILL_H] = inf
        return total, fill

    def _undelayed_eur(self) -> float:
        """What the tilt charges a run in one piece from now on, which is not late at all."""
        before = np.cumsum(self.room_h) - self.room_h
        return float(np.clip(self.work_h - before, 0.0, self.room_h) @ self.tilt)

    def stretches(self, fill: Floats) -> tuple[Stretch, ...]:
        """Neighbouring slots joined. A slot that is taken in part is taken where it touches its neighbour."""
        joined: list[Stretch] = []
        for slot in np.flatnonzero(fill > _LEAST_FILL_H).tolist():
            length_s = float(fill[slot]) * SLOT_S
            begin_s = self.now_s + float(self.late_h[slot]) * SLOT_S
            if joined and abs(sum(joined[-1]) - begin_s) < 1.0:
                joined[-1] = (joined[-1][0], joined[-1][1] + length_s)
                continue
            follows = slot + 1 < len(fill) and fill[slot + 1] > _LEAST_FILL_H
            if follows and slot:
                begin_s += (float(self.room_h[slot]) - float(fill[slot])) * SLOT_S
            joined.append((begin_s, length_s))
        return tuple(joined)


def restarts(fill: Floats) -> NDArray[np.int64]:
    """How often the plan for each site goes on after a pause."""
    used = fill > _LEAST_FILL_H
    begins = (used[:, 1:] & ~used[:, :-1]).sum(axis=1) + used[:, 0]
    return np.maximum(begins - 1, 0)
