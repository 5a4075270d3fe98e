"""How often the intervals hold on real prices and carbon intensities, on a year that chose nothing.

The model's constants were chosen on 2021–2022 (services/forecaster/README.md); this test states 2023.
"""

import csv

import numpy as np
import pytest

from services.forecaster.core.models import SeasonalNaive
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
