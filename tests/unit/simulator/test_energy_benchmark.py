"""What the energy benchmark concludes from the rows of its policies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benchmarks.energy import STEPS, _figures
from benchmarks.harness import load_targets
from simulator.bill import Summary
from simulator.experiment import POLICIES


def row(policy: str, objective_eur: float, mean_wait_h: float) -> Summary:
    figures: dict[str, Any] = {
        name: 0.0 if kind is float else 0 for name, kind in Summary.__annotations__.items() if name != "policy"
    }
    figures |= {"policy": policy, "objective_eur": objective_eur, "mean_wait_h": mean_wait_h, "oracle_gap": 0.1}
    return msgspec.convert(figures, Summary, strict=False)


def rows(**changed: tuple[float, float]) -> dict[str, Summary]:
    given = dict.fromkeys(POLICIES, (100.0, 5.0))
    given |= {"at-home": (120.0, 0.0), "cheapest-now": (110.0, 0.0), "best-on-average": (130.0, 0.0)}
    given |= {"solyx": (80.0, 1.0), "solyx-at-once": (90.0, 0.0), "oracle": (70.0, 0.0)}
    given |= {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: row(name, *value) for name, value in given.items()}


def test_each_policy_is_compared_with_those_that_wait_as_long_or_longer() -> None:
    figures = _figures(rows())
    assert figures["to_waiting_baselines"] == pytest.approx(0.8)
    assert figures["to_baselines_at_once"] == pytest.approx(90 / 110)
    assert figures["at_once_extra_wait_h"] == 0.0
    assert figures["oracle_gap"] == 0.1


def test_one_baseline_that_is_cheaper_shows() -> None:
    assert _figures(rows(suspend_resume=(60.0, 12.0)))["to_waiting_baselines"] > 1.0
    assert _figures(rows(cheapest_now=(80.0, 0.0)))["to_baselines_at_once"] > 1.0


def test_every_target_is_a_figure() -> None:
    figures = {*_figures(rows()), "forecast_and_solyx_wall_s", "rss_mb"}
    assert set(load_targets()["energy"]) <= figures
    assert all(variant.delay_eur_per_job_h == 0.0 for variant in STEPS.values())


def test_the_gap_is_that_of_each_price_of_delay_and_of_not_knowing_lengths() -> None:
    given = rows()
    given |= {
        name: msgspec.structs.replace(given[name], oracle_gap=gap)
        for name, gap in (("solyx-patient", 0.09), ("foresight", 0.04), ("clairvoyant", 0.03))
    }
    figures = _figures(given)
    names = ("oracle_gap", "patient_oracle_gap", "foresight_oracle_gap", "clairvoyant_oracle_gap")
    assert tuple(figures[name] for name in names) == (0.1, 0.09, 0.04, 0.03)
