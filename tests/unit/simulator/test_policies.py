"""Each policy on prices that a reader can add up: a job of 10 cores draws 1 kW, so an hour at 100 EUR/MWh costs 0.1 EUR."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from simulator.experiment import Experiment, Settings
from simulator.policies import BASELINES
from solyx.scenario import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simulator.bill import Summary


def night(hour: int) -> float:
    """10 EUR/MWh from 02:00 to 04:00, 100 otherwise."""
    return 10.0 if hour % 24 in (2, 3) else 100.0


def run(directory: Path, policy: str, carbon_eur_per_t: float = 0.0) -> Summary:
    scenario = load(directory)
    settings = Settings(carbon_eur_per_t=carbon_eur_per_t, forecast_every_h=6)
    return Experiment(scenario, scenario.start, scenario.start + timedelta(days=2), settings).run(policy).summary


def test_at_home_runs_at_once_whatever_it_costs(make_scenario: Callable[..., Path]) -> None:
    row = run(make_scenario([(0, 2, 10)], away=lambda _hour: 1.0), "at-home")
    assert row.cost_eur == pytest.approx(0.2)
    assert (row.mean_wait_h, row.energy_kwh, row.moved_jobs) == (0.0, 2.0, 0)


def test_the_idle_floor_is_billed_apart(make_scenario: Callable[..., Path]) -> None:
    row = run(make_scenario([(0, 1, 10)], carbon=500.0), "at-home", carbon_eur_per_t=100.0)
    assert row.idle_energy_kwh == pytest.approx(2 * 0.1 * 48)
    assert row.idle_cost_eur == pytest.approx(0.96)
    assert row.carbon_kg == pytest.approx(0.5)
    assert row.objective_eur == pytest.approx(0.1 + 0.05)


def test_cheapest_now_goes_where_the_hour_is_cheaper_if_that_pays_for_the_movement(
    make_scenario: Callable[..., Path],
) -> None:
    row = run(make_scenario([(0, 2, 10)], away=lambda _hour: 50.0, egress=0.001), "cheapest-now")
    assert row.cost_eur == pytest.approx(0.1 + 0.01)
    assert row.movement_eur == pytest.approx(0.01)
    assert row.moved_jobs == 1
    row = run(make_scenario([(0, 2, 10)], away=lambda _hour: 50.0, egress=0.1), "cheapest-now")
    assert (row.moved_jobs, row.cost_eur) == (0, pytest.approx(0.2))


def test_best_on_average_moves_everything_there_even_in_an_hour_when_it_is_dearer(
    make_scenario: Callable[..., Path],
) -> None:
    directory = make_scenario([(2, 1, 10), (10, 1, 10)], home=night, away=lambda _hour: 50.0, egress=0.001)
    row = run(directory, "best-on-average")
    assert row.moved_jobs == 2
    assert row.cost_eur == pytest.approx(0.05 * 2 + 0.02)


def test_threshold_waits_for_a_cheap_hour_at_home(make_scenario: Callable[..., Path]) -> None:
    def cheap_mornings(hour: int) -> float:
        return 10.0 if hour % 24 < 11 else 100.0

    row = run(make_scenario([(14.5, 1, 10)], home=cheap_mornings), "threshold")
    assert row.mean_wait_h == pytest.approx(9.5)
    assert row.cost_eur == pytest.approx(0.01)


def test_lowest_window_starts_a_long_job_in_the_cheapest_window_of_the_day(make_scenario: Callable[..., Path]) -> None:
    def valley(hour: int) -> float:
        return 10.0 if hour % 24 >= 20 else 100.0

    row = run(make_scenario([(10, 4, 10)], home=valley), "lowest-window")
    assert row.mean_wait_h == pytest.approx(10.0)
    assert row.cost_eur == pytest.approx(0.04)


def test_a_short_job_waits_at_most_six_hours(make_scenario: Callable[..., Path]) -> None:
    row = run(make_scenario([(10, 1, 10)], home=lambda hour: 10.0 if hour % 24 >= 20 else 100.0), "lowest-window")
    assert row.mean_wait_h <= 6.0


def test_carbon_time_takes_the_nearer_of_two_savings_that_are_almost_equal(make_scenario: Callable[..., Path]) -> None:
    def two_valleys(hour: int) -> float:
        return 20.0 if hour % 24 in (2, 3, 4, 5) else 10.0 if hour % 24 in (20, 21, 22, 23) else 100.0

    directory = make_scenario([(0, 4, 10)], home=two_valleys)
    assert run(directory, "lowest-window").mean_wait_h == pytest.approx(20.0)
    assert run(directory, "carbon-time").mean_wait_h == pytest.approx(2.0)


def test_suspend_resume_runs_in_the_cheapest_hours_and_pays_for_its_pauses(make_scenario: Callable[..., Path]) -> None:
    def comb(hour: int) -> float:
        return 10.0 if hour % 24 in (2, 6) else 100.0

    row = run(make_scenario([(0, 2, 10)], home=comb), "suspend-resume")
    assert row.suspensions == 1
    assert row.energy_kwh == pytest.approx(2 + 60 / 3600)
    assert row.cost_eur == pytest.approx(2 * 0.01 + 60 / 3600 * 0.1)


def test_solyx_finds_site_and_start(make_scenario: Callable[..., Path]) -> None:
    row = run(make_scenario([(0, 2, 10)], away=night, egress=0.001), "solyx")
    assert row.moved_jobs == 1
    assert row.mean_wait_h == pytest.approx(2.0)
    assert row.cost_eur == pytest.approx(0.02 + 0.01)


def test_solyx_at_once_never_waits_for_a_better_hour(make_scenario: Callable[..., Path]) -> None:
    row = run(make_scenario([(0, 2, 10)], home=night, away=lambda _hour: 50.0), "solyx-at-once")
    assert row.mean_wait_h == 0.0
    assert row.cost_eur == pytest.approx(0.1)


@pytest.mark.parametrize("policy", ["at-home", "solyx-at-once", "suspend-resume", "cheapest-now"])
def test_two_jobs_that_fill_a_node_each_do_not_run_on_it_together(
    make_scenario: Callable[..., Path], policy: str
) -> None:
    row = run(make_scenario([(0, 2, 10), (0, 2, 10), (0, 2, 10)]), policy)
    assert row.finished == 3
    assert row.mean_wait_h > 0.0


def test_a_job_larger_than_every_site_is_refused_for_every_policy(make_scenario: Callable[..., Path]) -> None:
    directory = make_scenario([(0, 1, 11), (0, 1, 10)])
    assert {run(directory, policy).refused for policy in ("at-home", "solyx")} == {1}


def test_no_policy_sees_a_price_before_it_is_published(make_scenario: Callable[..., Path]) -> None:
    """At 10:00 prices end with the day. A fall that comes tomorrow for the first time ever cannot be waited for."""

    def surprise(hour: int) -> float:
        return 1.0 if hour >= 24 else 100.0

    directory = make_scenario([(10, 1, 10)], home=surprise, away=surprise)
    for policy in ("solyx", "lowest-window", "suspend-resume"):
        assert run(directory, policy).mean_wait_h < 6.1
    assert run(directory, "oracle").objective_eur < 0.0011
    later = make_scenario([(13, 4, 10)], home=surprise, away=surprise)
    assert run(later, "solyx").cost_eur == pytest.approx(0.004)


def test_foresight_takes_the_cheapest_hours_there_will_be_and_goes_where_they_are(
    make_scenario: Callable[..., Path],
) -> None:
    """Two hours of work, of which it knows the length (no run has ended yet): night at home, or free power away."""
    directory = make_scenario([(20, 2, 10)], home=night, away=lambda _hour: 50.0, egress=0.1)
    row = run(directory, "foresight")
    assert (row.cost_eur, row.moved_jobs, row.mean_wait_h) == (pytest.approx(0.02), 0, pytest.approx(6.0))
    row = run(make_scenario([(20, 2, 10)], home=night, away=lambda _hour: 0.0, egress=0.0), "foresight")
    assert (row.cost_eur, row.moved_jobs, row.mean_wait_h) == (pytest.approx(0.0), 1, 0.0)


def test_foresight_has_room_for_all(make_scenario: Callable[..., Path]) -> None:
    row = run(make_scenario([(20, 2, 10)] * 30, home=night, away=lambda _hour: 500.0), "foresight")
    assert row.cost_eur == pytest.approx(30 * 0.02)


def test_clairvoyance_shares_the_cores_and_pays_no_less_than_the_bound(make_scenario: Callable[..., Path]) -> None:
    """Three jobs of which each fills the site: one has the two cheap hours of the night, the others run at once, here or by day."""
    directory = make_scenario([(20, 2, 10)] * 3, home=night, away=lambda _hour: 500.0)
    row = run(directory, "clairvoyant")
    assert (row.finished, row.deadline_misses) == (3, 0)
    assert row.cost_eur == pytest.approx(0.02 + 2 * 0.2)
    assert run(directory, "foresight").cost_eur < run(directory, "oracle").objective_eur <= row.objective_eur


def test_clairvoyance_knows_how_long_a_job_truly_runs(make_scenario: Callable[..., Path]) -> None:
    directory = make_scenario([(20, 2, 10)], home=night, away=lambda _hour: 500.0)
    row = run(directory, "clairvoyant")
    assert (row.cost_eur, row.mean_wait_h) == (pytest.approx(0.02), pytest.approx(6.0))


EVERYONE = ("solyx", *BASELINES, "foresight", "clairvoyant")


@pytest.mark.parametrize("policy", EVERYONE)
def test_nobody_runs_at_a_site_that_cannot_hold_the_job(make_scenario: Callable[..., Path], policy: str) -> None:
    row = run(make_scenario([(0, 2, 10)], away=lambda _hour: 1.0, away_cpu=5), policy)
    assert (row.finished, row.moved_jobs, row.refused) == (1, 0, 0)


@pytest.mark.parametrize("policy", EVERYONE)
def test_what_home_cannot_hold_runs_where_it_fits(make_scenario: Callable[..., Path], policy: str) -> None:
    row = run(make_scenario([(0, 2, 10)], home=lambda _hour: 1.0, home_cpu=5), policy)
    assert (row.finished, row.moved_jobs, row.refused) == (1, 1, 0)


def test_what_no_site_can_hold_is_counted_and_left_out(make_scenario: Callable[..., Path]) -> None:
    row = run(make_scenario([(0, 2, 10), (0, 2, 5)], home_cpu=5, away_cpu=5), "at-home")
    assert (row.jobs, row.finished, row.refused) == (1, 1, 1)
