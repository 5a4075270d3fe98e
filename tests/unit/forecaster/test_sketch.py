"""Quantiles of many series at a time."""

import math

import numpy as np
import pytest

from services.forecaster.core.sketch import CAPACITY, Sketch, quantiles

LEVELS = (0.5, 0.9, 0.99)


def exact(values, level):
    return sorted(values)[max(1, math.ceil(level * len(values) - 1e-9)) - 1]


def sketch_of(columns):
    sketch = Sketch(len(columns))
    for row in np.array(columns).T:
        sketch.add(slice(0, len(columns)), row)
    return sketch


@pytest.mark.parametrize("count", [1, 2, 3, 9, 64, CAPACITY - 1])
def test_up_to_its_capacity_a_quantile_is_the_exact_order_statistic(count):
    columns = np.random.default_rng(count).normal(size=(5, count))
    found = quantiles(sketch_of(columns).points(slice(0, 5)), np.full(5, count), LEVELS)
    for level, quantile in zip(LEVELS, found, strict=True):
        assert quantile.tolist() == [exact(column, level) for column in columns]


@pytest.mark.parametrize("shape", ["normal", "sorted", "reversed", "heavy"])
def test_above_it_the_rank_is_within_the_stated_bound(shape):
    count = 40 * CAPACITY + 17
    column = np.random.default_rng(3).lognormal(sigma=3.0 if shape == "heavy" else 0.5, size=count)
    column = {"sorted": np.sort(column), "reversed": np.sort(column)[::-1]}.get(shape, column)
    (found,) = np.array(quantiles(sketch_of([column]).points(slice(0, 1)), np.array([count]), LEVELS)).T
    bound = math.log2(count / CAPACITY) * count / CAPACITY
    ordered = np.sort(column)
    for level, value in zip(LEVELS, found, strict=True):
        assert abs(np.searchsorted(ordered, value) - level * count) <= bound


def test_the_weights_of_a_sketch_add_up_to_the_samples_it_saw():
    count = 5 * CAPACITY + 3
    sketch = sketch_of(np.random.default_rng(1).normal(size=(2, count)))
    weight = sum(weight * np.isfinite(block).sum(axis=1) for weight, block in sketch.points(slice(0, 2)))
    assert weight.tolist() == [count, count]


def test_series_with_different_numbers_of_samples_do_not_disturb_each_other():
    rng = np.random.default_rng(5)
    many, few = rng.normal(size=3 * CAPACITY), rng.normal(size=7)
    sketch = Sketch(2)
    for number, value in enumerate(many):
        sketch.add(np.array([1]), np.array([value]))
        if number < len(few):
            sketch.add(np.array([0]), few[number : number + 1])
    found = quantiles(sketch.points(slice(0, 2)), np.array([len(few), len(many)]), LEVELS)
    assert [quantile[0] for quantile in found] == [exact(few, level) for level in LEVELS]
