"""How long jobs truly run, given what their owners say: learned from the runs that end.

The simple algorithm: keep the ratio of true length to estimate of every job that succeeded; what a job still has to do is the mean
of its estimate times those ratios that are longer than what it has done. Here the ratios are counted in bins of a log scale, and an
exact estimate (ratio 1) is the prior. The counts are not rebuilt after a restart, and need not be: estimates are believed again
until enough runs have ended, which changes what starts are expected to cost and nothing that was decided.
"""

from __future__ import annotations

from math import log

import numpy as np

_BINS_PER_E = 10
_HALF = 40  # bins to either side of 1: ratios from e^-4 to e^4
_ENOUGH = 200  # runs before the owners' figures are not taken as exact
_TAIL_SHARE = 0.1  # what a run that outlasts every known ratio is expected to take more, of what it has taken


class Lengths:
    """Ratios of true to estimated length."""

    def __init__(self) -> None:
        self._count = np.zeros(2 * _HALF + 1)
        self._ratio = np.exp(np.arange(-_HALF, _HALF + 1) / _BINS_PER_E)
        self._seen = 0
        self._share = np.cumsum(self._count[::-1])[::-1]
        self._mass = self._share.copy()

    def learn(self, estimate_s: float, true_s: float) -> None:
        """A job has succeeded after this much work."""
        if true_s <= 0.0:
            return
        index = round(log(true_s / estimate_s) * _BINS_PER_E) + _HALF
        self._count[min(max(index, 0), 2 * _HALF)] += 1.0
        self._seen += 1
        if self._seen % _ENOUGH == 0:
            self._share = np.cumsum(self._count[::-1])[::-1]
            self._mass = np.cumsum((self._count * self._ratio)[::-1])[::-1]

    def left_s(self, estimate_s: float, done_s: float) -> float:
        """The work that a job is expected to have left after ``done_s`` of it."""
        if self._seen >= _ENOUGH:
            first = int(np.searchsorted(self._ratio, done_s / estimate_s, side="right"))
            if first < len(self._ratio) and self._share[first]:
                return float(self._mass[first] / self._share[first]) * estimate_s - done_s
        return max(estimate_s - done_s, _TAIL_SHARE * done_s)
