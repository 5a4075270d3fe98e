"""The lower bound on cases whose optimum a reader can see."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from simulator.experiment import Experiment, Settings
from solyx.scenario import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simulator.oracle import Bound


def bound(directory: Path) -> Bound:
    scenario = load(directory)
    return Experiment(scenario, scenario.start, scenario.start + timedelta(days=2), Settings()).bound(0.0)


def comb(hour: int) -> float:
    return 10.0 if hour % 24 in (2, 6) else 100.0


def test_of_a_job_alone_it_is_the_best_hours_with_one_overhead(make_scenario: Callable[..., Path]) -> None:
    found = bound(make_scenario([(0, 2, 10)], home=comb, egress=1.0))
    assert found.alone_eur == pytest.approx(0.02 + 60 / 3600 * 0.1)
    assert found.contiguous_eur == pytest.approx(0.01 + 0.1)


def test_movement_is_paid_once_to_leave_home(make_scenario: Callable[..., Path]) -> None:
    found = bound(make_scenario([(0, 2, 10)], away=lambda _hour: 20.0, egress=0.001))
    assert found.objective_eur == pytest.approx(0.04 + 0.01)


def test_jobs_that_do_not_fit_into_the_best_hour_together_raise_it(make_scenario: Callable[..., Path]) -> None:
    def dip(hour: int) -> float:
        return 10.0 if hour % 24 == 2 else 100.0

    found = bound(make_scenario([(0, 1, 10)] * 4, home=dip, egress=1.0))
    assert found.alone_eur == pytest.approx(4 * 0.01)
    assert found.objective_eur == pytest.approx(0.01 + 3 * 0.1)


def test_negative_prices_are_used(make_scenario: Callable[..., Path]) -> None:
    found = bound(make_scenario([(0, 1, 10)], home=lambda hour: -50.0 if hour % 24 == 5 else 100.0))
    assert found.objective_eur == pytest.approx(-0.05)
