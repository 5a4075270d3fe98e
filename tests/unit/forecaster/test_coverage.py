"""How often the intervals hold on real prices and carbon intensities, on a year that chose nothing.

The model's constants were chosen on 2021–2022 (services/forecaster/README.md); this test states 2023.
"""

import csv
from datetime import timedelta

import numpy as np
import pytest

from services.forecaster.core.models import SeasonalNaive
from services.forecaster.core.priced import Priced
from solyx.scenario import known_at, load
from tests.data import shared_data

ZONES = ("DE-LU", "US-CAL-CISO", "US-TEX-ERCO", "US-NY-NYIS")
HOUR = 3600
FIRST_OF_2023 = 730 * 24
EVERY_H = 61  # all hours of the day, every second or third day


def hourly_values(zone, column):
    with (shared_data() / "energy" / f"{zone}-2021-2023.csv").open() as file:
        return np.array([float(row[column]) if row[column] else np.nan for row in csv.DictReader(file)])


@pytest.mark.parametrize("column", ["price_eur_mwh", "carbon_gco2_kwh"])
def test_nine_of_ten_hours_of_2023_fall_into_the_interval(column):
    covered, better = {}, {}
    for zone in ZONES:
        values = hourly_values(zone, column)
        inside, errors, naive_errors = [], [], []
        for origin in range(FIRST_OF_2023, len(values) - 73, EVERY_H):
            if np.isnan(values[origin]):
                continue
            prediction = SeasonalNaive().predict(values[origin - 90 * 24 : origin + 1], HOUR, 72, 0.9)
            truth = values[origin + 1 : origin + 73]
            known = np.isfinite(truth)
            inside.append(((truth >= prediction.lower) & (truth <= prediction.upper))[known])
            errors.append(np.abs(truth - prediction.mean)[known])
            naive_errors.append(np.abs(truth - np.tile(values[origin - 23 : origin + 1], 3))[known])
        covered[zone] = float(np.concatenate(inside).mean())
        better[zone] = float(np.concatenate(errors).mean() / np.nanmean(np.concatenate(naive_errors)))
    print(column, "coverage", covered, "error against the daily naive", better)
    assert all(0.88 <= share <= 0.95 for share in covered.values()), covered
    assert np.mean(list(better.values())) < 0.9, better


def test_where_the_price_of_2023_is_published_carbon_is_forecast_better():
    scenario = load(shared_data() / "scenarios" / "grids-2023-year")
    covered, better = {}, {}
    for site in scenario.sites:
        series = scenario.energy(site.name)
        inside, errors, seasonal_errors = [], [], []
        for now in range(FIRST_OF_2023, len(series.carbon_gco2_per_kwh) - 73, EVERY_H):
            known = known_at(series.start + timedelta(hours=now), site.market)
            known_h = (known.price - series.start) // timedelta(hours=1)
            history, ahead = slice(now - 90 * 24, now), slice(now, known_h)
            prices = series.price_eur_per_mwh[now - 90 * 24 : now + 72].copy()
            prices[90 * 24 + known_h - now :] = np.nan
            carbon = series.carbon_gco2_per_kwh[history]
            priced = Priced(prices).predict(carbon, HOUR, 72, 0.9)
            if priced is None:
                continue
            truth, reach = series.carbon_gco2_per_kwh[ahead], slice(known_h - now)
            inside.append((truth >= priced.lower[reach]) & (truth <= priced.upper[reach]))
            errors.append(np.abs(truth - priced.mean[reach]))
            seasonal_errors.append(np.abs(truth - SeasonalNaive().predict(carbon, HOUR, 72, 0.9).mean[reach]))
        covered[site.zone] = float(np.concatenate(inside).mean())
        better[site.zone] = float(np.concatenate(errors).mean() / np.concatenate(seasonal_errors).mean())
    print("coverage", covered, "error against the seasonal naive", better)
    assert all(0.88 <= share <= 0.97 for share in covered.values()), covered
    assert np.mean(list(better.values())) < 0.9, better
