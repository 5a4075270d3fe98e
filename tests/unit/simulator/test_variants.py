"""What-if runs: what the production cores do where one thing or another is not in their way."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from simulator.experiment import SOLYX_AT_ONCE, Experiment, Settings, Variant
from solyx.scenario import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("variant", "wait_at_most_h"),
    [(Variant(one_node=True), 0.0), (Variant(site_factor=4), 0.0), (Variant(), None)],
)
def test_pods_that_fit_the_cores_but_not_the_nodes_wait_unless_there_is_one_node_or_more_of_them(
    make_scenario: Callable[..., Path], variant: Variant, wait_at_most_h: float | None
) -> None:
    """Two sites of three nodes of 10 cores: six pods of 6 cores fit them, ten fit their cores."""
    scenario = load(make_scenario([(0, 2, 6)] * 10, nodes=3))
    experiment = Experiment(scenario, scenario.start, scenario.start + timedelta(days=1), Settings())
    row = experiment.run(SOLYX_AT_ONCE, variant=variant).summary
    assert row.finished == 10
    assert row.mean_wait_h > 0.0 if wait_at_most_h is None else row.mean_wait_h <= wait_at_most_h
