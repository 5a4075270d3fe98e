"""How long jobs truly run, given what their owners say: learned from the runs that end.

The simple algorithm: of all jobs that ever ended, take those whose owners gave this estimate and that took longer than this one has by
now; their lengths, less what it has done, are what may be left. Too few give the same estimate, so Bayes' rule takes its place:

    P(length | estimate)  ∝  P(length) × P(estimate | length)

with the lengths of all jobs that succeeded as the first factor and their ratios of true to estimated length as the second, taken to be
independent of the length. The first matters where lengths have a long tail: of two jobs that look long the true length is more often
that of the many short ones ("regression to the mean"; for estimates by users: Tsafrir et al., "Backfilling using system-generated
predictions rather than user runtime estimates", IEEE TPDS 2007, §3). Both are counted in bins of a log scale.

An exact estimate is the prior. The counts are not rebuilt after a restart, and need not be: estimates are believed again until enough
runs have ended, which changes what starts are expected to cost and nothing that was decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_BINS_PER_E = 10
_HALF = 40  # bins of the ratio to either side of 1: from e^-4 to e^4
_LENGTHS = 170  # bins of the length: from 1 s to e^17 s, nine months
_ENOUGH = 200  # runs before the owners' figures are not taken as exact
_TAIL_SHARE = 0.1  # what a run that outlasts every known length is expected to take more, of what it has taken
_SMOOTH = np.array([0.25, 0.5, 0.25])  # neighbouring bins hold much the same
_UNSEEN = 0.5  # runs spread over all bins: no length is impossible
_KEPT = 8192
_AHEADS = 1024  # of the jobs that are looked at in one decision, and some
_HOUR_S = 3600.0
MOST_WORK_H = 96  # hours of work that are planned one by one; what comes after them is taken to cost the mean of a day
_OVER = 0.02  # a job that still runs with less than this probability is planned no further
_SPANS_S = np.arange(1.0, MOST_WORK_H) * _HOUR_S
_NONE = np.zeros(1)


@dataclass(frozen=True, eq=False)  # without slots: what is asked of it again and again is worked out once
class Ahead:
    """The work that a job may have left."""

    left_s: Floats  # ascending
    share: Floats  # the probability of each; they add up to 1

    @cached_property
    def mean_s(self) -> float:
        """Expected."""
        return float(self.left_s @ self.share)

    def after(self, spans_s: Floats) -> tuple[Floats, Floats]:
        """The work that is expected to be done in spans of running, s: E[min(left, span)]; the probability that it still runs then."""
        over = self.left_s.searchsorted(spans_s, "right")
        longer = self._longer[over]
        return self._over_s[over] + spans_s * longer, longer

    @cached_property
    def _longer(self) -> Floats:
        """The probability of the k-th length and all longer ones; the last is 0."""
        return np.concatenate((self.share[::-1].cumsum()[::-1], _NONE))

    @cached_property
    def _over_s(self) -> Floats:
        """The expected work of the k shortest lengths."""
        return np.concatenate((_NONE, (self.left_s * self.share).cumsum()))

    @cached_property
    def hours(self) -> int:
        """Hours of work that are worth a look one by one."""
        if self.left_s[-1] <= _HOUR_S:
            return 1
        return 1 + int((self.after(_SPANS_S)[1] > _OVER).sum())

    @cached_property
    def by_hour(self) -> tuple[Floats, Floats]:
        """Before each of these hours and after the last: the work expected to be done, s; the probability that it still runs then."""
        return self.after(np.arange(self.hours + 1.0) * _HOUR_S)


class Lengths:
    """What is known of true lengths."""

    def __init__(self) -> None:
        self._ratios = np.zeros(2 * _HALF + 1)
        self._lengths = np.zeros(_LENGTHS)
        self._length_s = np.exp(np.arange(_LENGTHS) / _BINS_PER_E)
        self._seen = 0
        self._likely: Floats | None = None  # smoothed: of each ratio
        self._common = self._lengths  # smoothed: of each length
        self._shares: dict[float, Floats] = {}
        self._aheads: dict[tuple[float, float], Ahead] = {}

    def learn(self, estimate_s: float, true_s: float) -> None:
        """A job has succeeded after this much work."""
        if true_s <= 0.0:
            return
        self._ratios[_bin(true_s / estimate_s, -_HALF, _HALF)] += 1.0
        self._lengths[_bin(true_s, 0, _LENGTHS - 1)] += 1.0
        self._seen += 1
        if self._seen % _ENOUGH == 0:
            self._likely = np.convolve(self._ratios, _SMOOTH, mode="same")
            self._common = np.convolve(self._lengths, _SMOOTH, mode="same") + _UNSEEN / _LENGTHS
            self._shares.clear()
            self._aheads.clear()

    def ahead(self, estimate_s: float, done_s: float) -> Ahead:
        """What a job may have left after ``done_s`` of work."""
        ahead = self._aheads.get((estimate_s, done_s))
        if ahead is None:
            if len(self._aheads) >= _AHEADS:
                self._aheads.clear()
            ahead = self._aheads[estimate_s, done_s] = self._ahead(estimate_s, done_s)
        return ahead

    def _ahead(self, estimate_s: float, done_s: float) -> Ahead:
        share = self._of(estimate_s)
        if share is not None:
            first = int(np.searchsorted(self._length_s, done_s, side="right"))
            rest = share[first:]
            kept = rest > 0.0
            if kept.any():
                rest = rest[kept]
                return Ahead(self._length_s[first:][kept] - done_s, rest / rest.sum())
        return Ahead(np.array([max(estimate_s - done_s, _TAIL_SHARE * done_s)]), np.ones(1))

    def left_s(self, estimate_s: float, done_s: float) -> float:
        """The work that a job is expected to have left after ``done_s`` of it."""
        return self.ahead(estimate_s, done_s).mean_s

    def _of(self, estimate_s: float) -> Floats | None:
        """The probability of each length, not normalised; None: not enough is known."""
        if self._likely is None:
            return None
        share = self._shares.get(estimate_s)
        if share is None:
            if len(self._shares) >= _KEPT:
                self._shares.clear()
            ratio = np.arange(_LENGTHS) - log(estimate_s) * _BINS_PER_E + _HALF
            likely = np.interp(ratio, np.arange(2 * _HALF + 1), self._likely, left=0.0, right=0.0)
            share = likely * self._common
            share[share < 1e-4 * share.max()] = 0.0
            self._shares[estimate_s] = share
        return share


def _bin(value: float, lowest: int, highest: int) -> int:
    return min(max(round(log(value) * _BINS_PER_E), lowest), highest) - min(lowest, 0)
