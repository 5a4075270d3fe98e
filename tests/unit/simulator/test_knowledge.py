"""What is known when: as the forecaster in production would say it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from services.forecaster.core import ForecastCore
from services.forecaster.model import ForecastPolicy
from simulator.knowledge import CARBON, PRICE, Moment, learn
from solyx.events import ForecastIssued
from solyx.scenario import load
from tests.unit.simulator.conftest import START

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AUCTION = START + timedelta(hours=12, minutes=45)
UNTIL = START + timedelta(hours=16)


def moments(directory: Path, every_h: int) -> list[Moment]:
    scenario = load(directory)
    energy = {site.name: scenario.energy(site.name) for site in scenario.sites}
    return learn(scenario, energy, START, UNTIL, every_h=every_h)


def test_an_auction_brings_new_forecasts_of_prices_and_carbon(make_scenario: Callable[..., Path]) -> None:
    issued = {moment.at: {(one.site, one.kind) for one in moment.issued} for moment in moments(make_scenario([]), 3)}
    everything = {(site, kind) for site in "ab" for kind in (PRICE, CARBON)}
    assert issued[AUCTION] == everything
    assert {at for at, what in issued.items() if what} == {START + timedelta(hours=h) for h in range(0, 16, 3)} | {
        AUCTION
    }


def _words(event: ForecastIssued) -> tuple[object, ...]:
    return event.subject_id, event.kind, event.start, event.known_steps, event.model


def test_what_is_forecast_is_what_a_core_in_production_says_that_is_asked_at_every_moment(
    make_scenario: Callable[..., Path],
) -> None:
    directory = make_scenario([], home=lambda hour: 50.0 + hour % 24, carbon=300.0)
    core = ForecastCore(ForecastPolicy(history_days=90))
    compared = 0
    for moment in moments(directory, 3):
        for event in moment.published:
            core.fold(event)
        said = [event for event in core.decide(moment.at) if isinstance(event, ForecastIssued)]
        if moment.issued:
            told = [one.event(moment.at) for one in moment.issued]
            assert [_words(event) for event in told] == [_words(event) for event in said]
            for ours, theirs in zip(told, said, strict=True):
                assert ours.mean == pytest.approx(theirs.mean, rel=1e-5)
            compared += 1
    assert compared == 7
