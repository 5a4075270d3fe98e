"""Ascent of a Lagrangian dual: prices on what is scarce, raised where plans use more than there is and lowered where less.

The dual is concave in the prices, and at any prices the plans that attain it give a supergradient: what they use less what there is
(Geoffrion 1974, §3). Steps are Polyak's ("Minimization of unsmooth functionals", 1969): towards a value to be reached, here a little
above the best so far, and less so each time the ascent has come to nothing for a while (Held, Wolfe and Crowder, "Validation of subgradient
optimization", 1974, §3). The direction remembers those before it, so that it does not swing between two prices (Camerini, Fratta and
Maffioli, "On improving relaxation methods by modified gradient techniques", 1975).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_AIM = 0.003  # how far above the best so far, as a share of it
_NARROWING, _PATIENCE = 0.6, 2
_MEMORY = 0.7


def ascend(
    dual: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    *,
    rounds: int,
    progress: Callable[[float], None] = lambda _share: None,
) -> Floats:
    """The best prices seen; none is negative. ``dual`` gives the value at prices, and a supergradient."""
    prices = found = start
    best, aim, since, before = -np.inf, _AIM, 0, np.zeros_like(start)
    for done in range(rounds):
        value, slope = dual(prices)
        since += 1
        if value > best:
            best, found, since = value, prices, 0
        if since == _PATIENCE:
            aim, since = aim * _NARROWING, 0
        slope = _inwards(prices, slope)
        before = slope + _MEMORY * before
        direction = _inwards(prices, before)
        # Against the supergradient a direction may be next to level: no further than the supergradient alone would go.
        steepness = max(float((slope * direction).sum()), float((slope * slope).sum()))
        step = (best + aim * abs(best) - value) / steepness if steepness > 0.0 else 0.0
        prices = np.maximum(prices + step * direction, 0.0)
        progress((done + 1) / rounds)
    return found


def _inwards(prices: Floats, direction: Floats) -> Floats:
    """Without what would make prices negative."""
    return np.where((prices <= 0.0) & (direction < 0.0), 0.0, direction)
