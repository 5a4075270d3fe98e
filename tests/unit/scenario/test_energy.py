from datetime import UTC, datetime, time

import numpy as np
import pytest

from solyx.scenario import DayAheadMarket, KnownUntil, known_at, load, next_publication

BERLIN = DayAheadMarket(zone="DE-LU", published=time(12, 45), timezone="Europe/Berlin")
TEXAS = DayAheadMarket(zone="US-TEX-ERCO", published=time(13, 30), timezone="America/Chicago")


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_gaps_stay_gaps(write):
    energy = load(write()).energy("berlin")
    assert (energy.start, energy.end) == (at("2023-05-31T22:00"), at("2023-06-01T03:00"))
    np.testing.assert_array_equal(energy.price_eur_per_mwh, [50.5, np.nan, -3.25, np.nan, 70])
    np.testing.assert_array_equal(energy.carbon_gco2_per_kwh, [400, 410, 420, np.nan, 440])
    np.testing.assert_array_equal(energy.renewable_pct, [30, 31, 32, np.nan, np.nan])
    assert energy.times()[2] == at("2023-06-01T00:00")
    assert energy.index(at("2023-06-01T00:59")) == 2
    assert energy.index(at("2020-01-01T00:00")) == 0
    assert energy.index(at("2030-01-01T00:00")) == 5


@pytest.mark.parametrize(
    ("market", "now", "price_until"),
    [
        (BERLIN, "2023-06-01T10:44", "2023-06-01T22:00"),  # a minute before the publication: to the end of today
        (BERLIN, "2023-06-01T10:45", "2023-06-02T22:00"),  # 12:45 in Berlin: to the end of tomorrow
        (BERLIN, "2023-06-01T22:30", "2023-06-02T22:00"),  # past midnight there: tomorrow has become today
        (BERLIN, "2023-03-25T12:00", "2023-03-26T22:00"),  # tomorrow has 23 hours
        (BERLIN, "2023-10-28T12:00", "2023-10-29T23:00"),  # tomorrow has 25
        (
            TEXAS,
            "2023-06-01T03:00",
            "2023-06-02T05:00",
        ),  # 22:00 on May 31st in Texas, long published: June 1st is known
        (TEXAS, "2023-06-01T18:30", "2023-06-03T05:00"),
    ],
)
def test_prices_are_known_to_the_end_of_a_local_day(market, now, price_until):
    assert known_at(at(now), market).price == at(price_until)


def test_carbon_is_known_of_the_past_only():
    assert known_at(at("2023-06-01T10:59"), BERLIN) == KnownUntil(
        price=at("2023-06-02T22:00"), carbon=at("2023-06-01T10:00")
    )


def test_the_next_publication_comes_at_the_same_local_time():
    assert next_publication(at("2023-03-25T11:44"), BERLIN) == at("2023-03-25T11:45")
    assert next_publication(at("2023-03-25T11:45"), BERLIN) == at("2023-03-26T10:45")  # summer time has begun
    assert next_publication(at("2023-06-01T02:00"), TEXAS) == at("2023-06-01T18:30")
