"""One run of the simulator: a scenario, a span, and policies in; summaries and what the plots need out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from services.cmo.model import Policy
from simulator.bill import Summary, summarise
from simulator.foresight import with_clairvoyance, with_foresight
from simulator.knowledge import FORECAST_EVERY_H, Outlook, learn
from simulator.oracle import Bound, lower_bound
from simulator.policies import BASELINES, baseline
from simulator.production import Production
from simulator.queueing import Engine
from simulator.variants import with_more_nodes, with_one_node, with_true_future, with_true_lengths
from simulator.workload import SUSPEND_OVERHEAD_S, read_workload
from simulator.world import make_world
from solyx.clock import monotonic_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from simulator.knowledge import Moment
    from simulator.runs import Runs
    from simulator.workload import Workload
    from simulator.world import World
    from solyx.scenario import Scenario

SOLYX, SOLYX_PATIENT, SOLYX_AT_ONCE, FORESIGHT, CLAIRVOYANT, ORACLE = (
    "solyx",
    "solyx-patient",
    "solyx-at-once",
    "foresight",
    "clairvoyant",
    "oracle",
)
POLICIES = (SOLYX, SOLYX_PATIENT, SOLYX_AT_ONCE, *BASELINES, FORESIGHT, CLAIRVOYANT, ORACLE)
_KNOWING = {FORESIGHT: with_foresight, CLAIRVOYANT: with_clairvoyance}
DELAY_EUR_PER_JOB_H: dict[str, float | None] = {SOLYX: None, SOLYX_PATIENT: 0.0, SOLYX_AT_ONCE: 1000.0}
"""The price of delay by policy. None: the CMO's own; 0: all the owner allows is used, as the oracle does; so high that no job waits for
a better hour: what the choice of the site alone is worth."""
_DRAIN = timedelta(days=4)  # of prices and forecasts after the last arrival


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run weighs and how it looks ahead."""

    carbon_eur_per_t: float = 100.0
    forecast_every_h: int = FORECAST_EVERY_H
    seed: int = 0  # for policies that draw; none of today's does, so every seed gives the same bytes


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of the production cores departs from the honest one; for finding out what its gap to the bound is made of."""

    delay_eur_per_job_h: float | None = None  # None: as the CMO's own default
    true_lengths: bool = False  # owners' estimates are exact
    true_future: bool = False  # forecasts are what will be
    one_node: bool = False  # of as many cores at each site
    site_factor: int = 1  # times as many nodes at every site


HONEST = Variant()


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What one policy did."""

    summary: Summary
    runs: Runs | None  # None: a bound, not a schedule
    wall_s: float


class Experiment:
    """Everything that policies share, made once."""

    def __init__(
        self,
        scenario: Scenario,
        since: datetime,
        until: datetime,
        settings: Settings,
        progress: Callable[[str, float], None] = lambda _name, _share: None,
    ) -> None:
        """Reads jobs and energy and makes every forecast of the span.

        Raises:
            ScenarioError: a file of the scenario does not fit.
            ValueError: nothing arrives in the span.
        """
        self.since, self.until, self.settings = since, until, settings
        self.scenario = scenario
        self._progress = progress
        self.workload: Workload = read_workload(scenario, since, until)
        if not self.workload.jobs:
            msg = f"no job of {scenario.name} arrives between {since.isoformat()} and {until.isoformat()}"
            raise ValueError(msg)
        self._energy = {site.name: scenario.energy(site.name) for site in scenario.sites}
        self.world: World = make_world(scenario.sites, self._energy, since, until)
        self.overhead_s = scenario.job_source.suspend_overhead_s or SUSPEND_OVERHEAD_S
        self._moments: list[Moment] | None = None
        self._bounds: dict[float, Bound] = {}
        self.forecast_wall_s = 0.0

    def silence(self) -> None:
        """Report no progress any more: a copy in another process has nobody to report to."""
        self._progress = lambda _name, _share: None

    def moments(self) -> list[Moment]:
        """What becomes known when; made when a policy first asks."""
        if self._moments is None:
            began = monotonic_s()
            self._moments = learn(
                self.scenario,
                self._energy,
                self.since,
                self.until + _DRAIN,
                every_h=self.settings.forecast_every_h,
                progress=lambda share: self._progress("forecasts", share),
            )
            self.forecast_wall_s = monotonic_s() - began
            self._progress("forecasts", 1.0)
        return self._moments

    def run(self, name: str, carbon_eur_per_t: float | None = None, variant: Variant = HONEST) -> Result:
        """One policy at a carbon price; ``variant`` is for the production cores only.

        Raises:
            KeyError: no policy has that name.
        """
        weight = self.settings.carbon_eur_per_t if carbon_eur_per_t is None else carbon_eur_per_t
        if name not in (*_KNOWING, ORACLE):
            self.moments()
        began = monotonic_s()
        if name == ORACLE:
            return Result(summary=_row_of(self.bound(weight), self), runs=None, wall_s=monotonic_s() - began)
        runs = self._schedule(name, weight, variant)
        summary = summarise(
            name,
            runs,
            self.workload,
            self.world,
            since_s=self.since.timestamp(),
            until_s=self.until.timestamp(),
            carbon_eur_per_t=weight,
        )
        self._progress(name, 1.0)
        return Result(summary=summary, runs=runs, wall_s=monotonic_s() - began)

    def _schedule(self, name: str, weight: float, variant: Variant) -> Runs:
        def report(share: float) -> None:
            self._progress(name, share)

        if name in DELAY_EUR_PER_JOB_H:
            price = DELAY_EUR_PER_JOB_H[name]
            if price is not None:
                variant = msgspec.structs.replace(variant, delay_eur_per_job_h=price)
            return self._production(weight, variant, report)
        if name in _KNOWING:
            return _KNOWING[name](
                self.workload,
                self.world,
                carbon_eur_per_t=weight,
                suspend_overhead_s=self.overhead_s,
                progress=report,
            )
        moments = self.moments()
        outlook = Outlook(self.world.names, weight)
        policy = baseline(name, outlook, self.world, weight)
        engine = Engine(self.workload, self.scenario.sites, outlook, policy, suspend_overhead_s=self.overhead_s)
        return engine.run(moments, report)

    def _production(self, weight: float, variant: Variant, report: Callable[[float], None]) -> Runs:
        policy = Policy(carbon_eur_per_t=weight, restart_s=self.overhead_s)
        if variant.delay_eur_per_job_h is not None:
            policy = msgspec.structs.replace(policy, delay_eur_per_job_h=variant.delay_eur_per_job_h)
        workload, moments = self.workload, self.moments()
        if variant.true_lengths:
            workload = with_true_lengths(workload)
        if variant.true_future:
            moments = with_true_future(moments, self.world)
        if variant.one_node:
            moments = with_one_node(moments)
        if variant.site_factor > 1:
            moments = with_more_nodes(moments, variant.site_factor)
        production = Production(workload, self.world.names, policy, suspend_overhead_s=self.overhead_s)
        return production.run(moments, report)

    def bound(self, carbon_eur_per_t: float) -> Bound:
        """The lower bound at a carbon price; worked out once."""
        found = self._bounds.get(carbon_eur_per_t)
        if found is None:
            found = self._bounds[carbon_eur_per_t] = lower_bound(
                self.workload,
                self.world,
                carbon_eur_per_t=carbon_eur_per_t,
                suspend_overhead_s=self.overhead_s,
                progress=lambda share: self._progress(ORACLE, share),
            )
            self._progress(ORACLE, 1.0)
        return found


def with_gaps(results: list[Result]) -> list[Summary]:
    """The rows with each policy's gap to the lower bound, where there is one."""
    bound = next((r.summary.objective_eur for r in results if r.summary.policy == ORACLE), None)
    rows = [result.summary for result in results]
    if not bound or bound <= 0:
        return rows
    return [msgspec.structs.replace(row, oracle_gap=row.objective_eur / bound - 1.0) for row in rows]


def _row_of(bound: Bound, experiment: Experiment) -> Summary:
    """The bound as a row: it has an objective and no schedule, so the rest is not a number of anything."""
    nan = float(np.nan)
    return Summary(
        policy=ORACLE,
        jobs=len(experiment.workload.jobs),
        finished=len(experiment.workload.jobs),
        refused=experiment.workload.refused,
        objective_eur=bound.objective_eur,
        cost_eur=nan,
        energy_eur=nan,
        movement_eur=nan,
        carbon_kg=nan,
        energy_kwh=nan,
        idle_cost_eur=nan,
        idle_carbon_kg=nan,
        idle_energy_kwh=nan,
        mean_wait_h=nan,
        p95_wait_h=nan,
        mean_slowdown=nan,
        p95_slowdown=nan,
        deadline_misses=0,
        migrations=0,
        suspensions=0,
        moved_jobs=0,
        utilisation=nan,
        oracle_gap=0.0,
    )
