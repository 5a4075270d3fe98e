"""The least that a job costs when it pays for every suspension and every movement.

Every suspension repeats ``overhead_h`` of work, so a plan of K suspensions runs for length + K × overhead in all. For each K the cheapest
plan of that time is found (``simulator/stretches.py``), with the number of its suspensions relaxed (Geoffrion, "Lagrangean relaxation for
integer programming", 1974, §3): each costs ν ≥ 0, and K × ν are given back. The least of all K is at most what every plan costs, whatever
the ν; they are what the overhead costs in the dearest hour that the job needs, so that a plan of another number gains next to nothing.

Few plans suspend often, so K or more suspensions are the last case. From such a plan, take away what it repeats for those after the
K-th, at the ends of its stretches: each minute saves at least the least price of the window. With that as ν the case is the same as
before. Where the least price is negative, ν is 0, and what is taken away saves nothing or more: work repeated for the money, at a negative
price, is none that the bound allows for, beyond that of the first K suspensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.stretches import Costs, least

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.plans import Windows

    Floats = NDArray[np.float64]

_NEVER_EUR = np.inf
_HOURS_PER_COUNT = 4.0
_COUNTS = 4


def least_with_overheads(windows: Windows, work_eur: Floats, overhead_h: float) -> Floats:
    """A lower bound for each job on its plans; ``work_eur``: for an hour of its work over (cell, site, job)."""
    jobs = windows.jobs
    cheapest = work_eur.min(axis=1)  # over (cell, job)
    needed = np.minimum(np.ceil(jobs.length_h).astype(np.int64), len(cheapest) - 1)
    dearest = np.sort(cheapest, axis=0)[needed, np.arange(len(needed))]
    counts = int(np.clip(jobs.length_h.max() / _HOURS_PER_COUNT, 1, _COUNTS))
    best = np.full(len(needed), np.inf)
    for count in range(counts):
        found = _with_count(windows, work_eur, overhead_h, count, np.maximum(dearest, 0.0) * overhead_h)
        best = np.minimum(best, found)
    more = _with_count(windows, work_eur, overhead_h, counts, np.maximum(cheapest.min(axis=0), 0.0) * overhead_h)
    return np.minimum(best, np.where(jobs.suspendable, more, np.inf))


def least_without_pause(windows: Windows, work_eur: Floats) -> Floats:
    """What the cheapest single runs cost, exactly."""
    never = np.broadcast_to(_NEVER_EUR, work_eur.shape)
    costs = Costs(work_eur=work_eur, again_eur=never, leaving_eur=windows.jobs.leaving_eur)
    return least(windows, costs, windows.jobs.length_h)


def _with_count(windows: Windows, work_eur: Floats, overhead_h: float, count: int, each_eur: Floats) -> Floats:
    jobs = windows.jobs
    again = np.broadcast_to(np.where(jobs.suspendable, each_eur, _NEVER_EUR), work_eur.shape)
    costs = Costs(work_eur=work_eur, again_eur=again, leaving_eur=jobs.leaving_eur)
    found = least(windows, costs, jobs.length_h + count * overhead_h) - count * each_eur
    return found if count == 0 else np.where(jobs.suspendable, found, np.inf)
