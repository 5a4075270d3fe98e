"""Small jobs, and what they cost by trying everything: what the bounds of the oracle are held against."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

from simulator.plans import Jobs

QUARTERS = 4  # of an hour: what the exhaustive search moves by


def make_jobs(*jobs, sites: int = 2, suspendable: bool = True) -> Jobs:
    """Jobs as (arrival, length, wait) in hours, of ten cores and 1 kW at each site, at home at site 0 and with data that costs nothing."""
    arrival, length, wait = np.array(jobs, dtype=float).T
    count = len(jobs)
    return Jobs(
        arrival_h=arrival,
        length_h=length,
        wait_h=wait,
        cores=np.full(count, 10.0),
        power_kw=np.ones((sites, count)),
        movement_eur=np.zeros(count),
        leaving_eur=np.zeros((sites, count)),
        home=np.zeros(count, np.int64),
        closed=np.zeros((sites, count), np.bool_),
        suspendable=np.full(count, suspendable),
    )


def cheapest_by_quarters(rates, *, begin: int, end: int, time: int, leaving, again) -> dict[int, float]:
    """The least cost by number of suspensions of all plans that run ``time`` quarters of an hour between ``begin`` and ``end``.

    ``rates``: EUR for an hour over (site, hour). ``again``: EUR for each suspension. The job's data is at site 0.
    """
    sites = range(len(rates))

    @cache
    def ahead(quarter: int, site: int, runs: bool, left: int) -> dict[int, float]:
        if left == 0:
            return {0: 0.0}
        if left > end - quarter:
            return {}
        found: dict[int, float] = dict(ahead(quarter + 1, site, False, left))
        for there in sites:
            # Left is what was begun with: the first run is no suspension, and may be anywhere.
            goes_on = left < time and not (runs and there == site)
            eur = rates[there][quarter // QUARTERS] / QUARTERS + (leaving[site] if there != site else 0.0)
            for count, rest in ahead(quarter + 1, there, True, left - 1).items():
                total = eur + rest + (again if goes_on else 0.0)
                found[count + goes_on] = min(found.get(count + goes_on, np.inf), total)
        return found

    return ahead(begin, 0, False, time)


def hourly_plans(rates, *, arrival: int, length_h: float, wait_h: int, leaving, overhead_h: float):
    """Every plan of hours (where in each, None: nowhere) with its cost; each interruption loses some work, which is done again."""
    hours = len(rates[0])
    window = range(arrival, min(hours, int(arrival + length_h + wait_h)))
    for choice in product((None, *range(len(rates))), repeat=len(window)):
        plan = [(hour, where) for hour, where in zip(window, choice, strict=True) if where is not None]
        eur = _hourly_cost(rates, plan, length_h, leaving, overhead_h)
        if eur is not None:
            yield plan, eur


def _hourly_cost(rates, plan, length_h: float, leaving, overhead_h: float) -> float | None:
    lies_at, eur, starts, last = 0, 0.0, 0, None
    for hour, where in plan:
        eur += rates[where][hour] + (leaving[lies_at] if lies_at != where else 0.0)
        starts += last != (hour - 1, where)
        lies_at, last = where, (hour, where)
    need = length_h + overhead_h * (starts - 1)
    if not len(plan) - 1 < need <= len(plan):
        return None
    if sum(rates[where][hour] < 0.0 for hour, where in plan) > length_h + overhead_h:
        return None  # work repeated for the money
    # What is not needed is left out where a stretch begins or ends: anywhere else it would be one more interruption.
    edges = [(hour, where) for hour, where in plan if {(hour - 1, where), (hour + 1, where)} - set(plan)]
    return eur - (len(plan) - need) * max(rates[where][hour] for hour, where in edges)
