"""Whatever is submitted, fails, is cancelled or outlasts its estimate: a hard budget holds, windows free, nothing is lost."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from services.cmo.core import CmoCore
from solyx.budget import window_start
from solyx.events import (
    Budget,
    Event,
    JobFinished,
    JobPlaced,
    JobSubmitted,
    PlacementDeferred,
    Run,
    WorkloadReason,
)
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    budget,
    budgets,
    cancelled,
    carbon,
    core,
    node,
    prices,
    report,
    site,
    submitted,
)

MODEST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

a_budget = st.one_of(
    st.builds(budget, st.sampled_from(["gpu_h", "cpu_h"]), st.sampled_from([2.0, 5.0, 9.5]), st.just("day")),
    st.builds(
        lambda quantity, limit, hours: budget(quantity, limit, hours=hours),
        st.sampled_from(["gpu_h", "cpu_h"]),
        st.sampled_from([2.0, 5.0, 9.5]),
        st.sampled_from([1, 6, 25.5]),
    ),
)
a_job = st.fixed_dictionaries(
    {
        "gpus": st.sampled_from([0, 1, 2]),
        "runs": st.sampled_from([0.2, 0.5, 1.0, 2.0]),
        "hours": st.integers(0, 40),
        "priority": st.integers(0, 2),
    }
)


def world() -> list[Event]:
    return [
        site("a", node("1", cores=64, gpus=64)),
        prices("a", *[50.0] * 300, start=-24),
        carbon("a", *[100.0] * 300, start=-24),
    ]


class Clusters:
    """Runs what is placed: each run takes its estimate times a chance, and may fail or be cancelled."""

    def __init__(self, cmo: CmoCore, jobs: list[JobSubmitted], seed: int, longest: float) -> None:
        self.cmo, self.jobs, self.random, self.longest = cmo, list(jobs), Random(seed), longest
        self.log: list[Event] = []
        self.inputs: list[Event] = []
        self.ends: list[tuple[datetime, JobPlaced, datetime]] = []
        self.live: dict[str, JobPlaced] = {}

    def give(self, event: Event) -> None:
        self.inputs.append(event)
        self.cmo.fold(event)

    def step(self, hours: float) -> None:
        now = at(hours)
        for job in [job for job in self.jobs if job.submitted_at <= now]:
            self.jobs.remove(job)
            self.give(job)
            if self.random.random() < 0.1:
                self.give(cancelled(job, hours))
        for due in [due for due in self.ends if due[0] <= now]:
            self.ends.remove(due)
            end, placed, start = due
            status, reason = self.random.choice(
                [("succeeded", WorkloadReason.COMPLETED)] * 4
                + [("failed", WorkloadReason.EXIT_CODE), ("stopped", WorkloadReason.RELEASED)]
            )
            self.give(report(placed, "started", (start - T0) / timedelta(hours=1)))
            over = report(placed, status, (end - T0) / timedelta(hours=1), reason=reason)
            kept_s = 0.0
            if status == "stopped":  # suspended or preempted, with all of its work kept
                kept_s = min(placed.progress_s + (end - start).total_seconds(), placed.spec.duration_estimate_s)
            self.give(structs.replace(over, started_at=start, progress_s=kept_s))
        for decided in self.cmo.decide(now):
            self.log.append(decided)
            if isinstance(decided, JobPlaced):
                left_s = decided.spec.duration_estimate_s - decided.progress_s
                took = left_s * self.random.uniform(0.3, self.longest)
                self.ends.append((decided.start_at + timedelta(seconds=took), decided, decided.start_at))


def runs_of(log: list[Event]) -> dict[tuple[str, int], Run]:
    """Every run that anything in the log tells of."""
    return {(event.job_id, run.revision): run for event in log for run in event.runs}  # type: ignore[attr-defined]


def taken(runs: Iterable[Run], limit: Budget, now: datetime) -> float:
    """What the runs took that ended in the window, from the log alone, with the window cut exactly."""
    since = now - timedelta(seconds=limit.rolling_s) if limit.rolling_s else window_start(limit, now)
    return sum(getattr(run.usage, limit.quantity) for run in runs if since < run.ended_at <= now)


def simulate(draws, limit: Budget, seed: int, *, longest: float, hours: int = 90, steps: int = 2) -> Clusters:
    jobs = [submitted(f"job-{index:02}", max_delay=0, **options) for index, options in enumerate(draws)]
    clusters = Clusters(core(), jobs, seed, longest)
    for event in (*world(), budgets(limit)):
        clusters.give(event)
    for step in range(hours * steps):
        clusters.step(step / steps)
    return clusters


@MODEST
@given(st.lists(a_job, max_size=15), a_budget, st.integers(0, 99))
def test_a_hard_budget_is_never_exceeded_when_runs_keep_to_their_estimates(draws, limit, seed):
    clusters = simulate(draws, limit, seed, longest=1.0)
    runs = runs_of(clusters.log).values()
    for hour in range(90):
        assert taken(runs, limit, at(hour)) <= limit.limit + 1e-6


@MODEST
@given(st.lists(a_job, max_size=15), a_budget, st.integers(0, 99))
def test_it_is_exceeded_by_no_more_than_runs_took_beyond_their_estimates(draws, limit, seed):
    clusters = simulate(draws, limit, seed, longest=2.0)
    placed_as = {(one.job_id, one.revision): one for one in clusters.log if isinstance(one, JobPlaced)}
    beyond = 0.0
    for key, run in runs_of(clusters.log).items():
        placed = placed_as[key]
        resources = placed.spec.resources
        milli = resources.gpu_milli if limit.quantity == "gpu_h" else resources.cpu_milli
        expected = milli / 1000 * (placed.spec.duration_estimate_s - placed.progress_s) / 3600
        beyond += max(0.0, getattr(run.usage, limit.quantity) - expected)
    runs = runs_of(clusters.log).values()
    for hour in range(90):
        assert taken(runs, limit, at(hour)) <= limit.limit + beyond + 1e-6


@MODEST
@given(st.lists(a_job, max_size=6), a_budget, st.integers(0, 99))
def test_nothing_is_lost_and_what_can_fit_runs_in_some_window(draws, limit, seed):
    clusters = simulate(draws, limit, seed, longest=1.0, hours=300, steps=1)
    over = {event.job_id for event in clusters.log if isinstance(event, JobFinished)}
    told = {event.job_id: event for event in clusters.log if isinstance(event, PlacementDeferred)}
    for index, _ in enumerate(draws):
        job_id = f"job-{index:02}"
        assert job_id in over or "more than the whole budget" in told[job_id].detail


@MODEST
@given(st.lists(a_job, max_size=12), a_budget, st.integers(0, 99), st.randoms(use_true_random=False))
def test_a_core_recovered_from_the_log_in_any_order_goes_on_alike(draws, limit, seed, random):
    clusters = simulate(draws, limit, seed, longest=1.5, hours=30)
    # A job's own reports keep their order; everything else is read partition by partition, in whatever order.
    events = [*clusters.log, *clusters.inputs]
    random.shuffle(events)
    recovered = core(*events)
    for hour in range(30, 60):
        expected, got = clusters.cmo.decide(at(hour)), recovered.decide(at(hour))
        assert sorted(map(repr, got)) == sorted(map(repr, expected))


@MODEST
@given(st.lists(a_job, max_size=12), a_budget, st.integers(0, 99))
def test_the_same_events_give_the_same_decisions(draws, limit, seed):
    one, other = (simulate(draws, limit, seed, longest=2.0, hours=40) for _ in range(2))
    assert one.log == other.log
