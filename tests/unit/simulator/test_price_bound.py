"""A bound on the prices of the sites in a simulated scenario: what the cores ask and answer reaches the other at the same moment."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from simulator.experiment import Experiment, Settings
from solyx.scenario import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simulator.runs import Runs


def peak(hour: int) -> float:
    """300 EUR/MWh from 03:00 to 05:00, 100 otherwise."""
    return 300.0 if hour % 24 in (3, 4) else 100.0


def runs(directory: Path, bound: float | None) -> Runs:
    """Of one job of four hours under a policy that runs it at once, whatever the price."""
    if bound is not None:
        file = directory / "scenario.toml"
        site = 'name = "{}"\n'
        text = file.read_text()
        for name in ("a", "b"):
            text = text.replace(site.format(name), f"{site.format(name)}price_bound_eur_per_mwh = {bound}\n")
        file.write_text(text)
    scenario = load(directory)
    assert scenario.unread_keys == ()
    settings = Settings(carbon_eur_per_t=0.0, forecast_every_h=6)
    experiment = Experiment(scenario, scenario.start, scenario.start + timedelta(days=2), settings)
    found = experiment.run("solyx-at-once").runs
    assert found is not None
    return found


def spans(of: Runs) -> list[tuple[float, float]]:
    """Hours after midnight in which it ran."""
    return [(start % 86400 / 3600, end % 86400 / 3600) for start, end in zip(of.start_s, of.end_s, strict=True)]


def test_the_work_leaves_for_the_hours_above_the_bound(make_scenario: Callable[..., Path]) -> None:
    directory = make_scenario([(1, 4, 10)], home=peak, away=peak)
    assert spans(runs(directory, None)) == [(1.0, 5.0)]
    first, second = spans(runs(directory, 200.0))
    assert first == (1.0, 3.0)
    assert second == (5.0, pytest.approx(7.0 + 60 / 3600))


def test_a_bound_that_is_never_reached_changes_nothing(make_scenario: Callable[..., Path]) -> None:
    directory = make_scenario([(1, 4, 10), (2, 3, 5)], home=peak, away=peak)
    assert spans(runs(directory, None)) == spans(runs(directory, 1000.0))
