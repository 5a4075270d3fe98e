"""Targets are compared in their direction, and a figure that is missing counts as short."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.harness import Target, load_targets, shortfalls, write_json


@pytest.mark.parametrize(
    ("target", "figure", "met"),
    [
        (Target(unit="s", source="x", at_most=1.0), 1.0, True),
        (Target(unit="s", source="x", at_most=1.0), 1.1, False),
        (Target(unit="1/s", source="x", at_least=10.0), 10.0, True),
        (Target(unit="1/s", source="x", at_least=10.0), 9.9, False),
    ],
)
def test_a_target_is_met_on_its_side_of_the_bound(target: Target, figure: float, met: bool) -> None:
    assert target.met_by(figure) is met
    assert bool(shortfalls({"f": figure}, {"f": target})) is not met


def test_a_figure_that_was_not_measured_is_short() -> None:
    assert shortfalls({}, {"f": Target(unit="s", source="x", at_most=1.0)}) == ["f: not measured"]


def test_figures_are_written_whatever_computed_them(tmp_path: Path) -> None:
    write_json(tmp_path / "f.json", "x", {"plain": 1.5, "numpy": np.float64(2.5), "count": 3})
    assert json.loads((tmp_path / "f.json").read_text())["figures"] == {"plain": 1.5, "numpy": 2.5, "count": 3.0}


def test_every_target_has_a_direction_and_a_source_and_belongs_to_a_benchmark() -> None:
    for benchmark, targets in load_targets().items():
        name = benchmark.removesuffix("_large")
        assert name in BENCHMARKS
        assert benchmark == name or callable(importlib.import_module(f"benchmarks.{name}").measure_large)
        for target in targets.values():
            assert (target.at_least is None) != (target.at_most is None)
            assert target.source


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_benchmark_can_be_measured(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)
