"""What runs took, and budgets over time, on the command line."""

import json
from typing import Any

import pytest

from tests.unit.cli.cli_answers import AT, Solyx

# usage and budgets -------------------------------------------------------------------------------------------------------

FIGURES = {
    "jobs": 3,
    "cpu_h": 12.0,
    "gpu_h": 6.5,
    "energy_kwh": 4.2,
    "cost_eur": 0.31,
    "carbon_kg": 1.7,
    "measured_kwh": 2.72,
}
USAGE = {
    "since": AT,
    "until": AT,
    "rows": [FIGURES | {"start": AT, "tenant": "vision", "site": "", "label": ""}],
    "total": FIGURES,
    "next": None,
}


def test_usage_shows_a_row_for_each_group_and_the_total(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/usage", USAGE)
    shown = solyx("usage", "--by", "tenant", "--by", "day", "--since", "2026-01-01").out
    for word in ("vision", "6.50", "2.72", "0.31", "total", "2026-01-"):
        assert word in shown
    asked = gateway.requests[-1].url.params
    assert (asked.get_list("by"), asked["since"]) == (["tenant", "day"], "2026-01-01T00:00:00+00:00")
    assert solyx("usage", "--json").documents == [USAGE]


def test_budgets_show_what_is_left(solyx: Solyx, gateway: Any) -> None:
    budget = {
        "tenant": "vision",
        "quantity": "gpu_h",
        "limit": 500.0,
        "window": "month",
        "enforcement": "hard",
        "used": 412.0,
        "planned": 64.0,
        "left": 24.0,
        "state": "open",
        "window_start": AT,
        "window_end": AT,
    }
    gateway.on("GET", "/v1/budgets", {"now": AT, "budgets": [budget]})
    shown = solyx("budgets", "--tenant", "vision").out
    for word in ("vision", "gpu_h", "month", "412.00", "64.00", "24.00", "open"):
        assert word in shown
    assert solyx("budgets", "--json").documents == [budget]


def test_budgets_are_set_and_taken_away(solyx: Solyx, gateway: Any) -> None:
    gateway.on("PUT", "/v1/budgets/vision", {"tenant": "vision", "revision": 2, "budgets": [], "set_at": AT})
    assert (
        "revision 2"
        in solyx("budgets", "--tenant", "vision", "--set", "gpu_h=500/month", "--set", "cost_eur=8/30d/soft").out
    )
    assert json.loads(gateway.requests[-1].content) == {
        "budgets": [
            {"quantity": "gpu_h", "limit": 500.0, "window": "month", "enforcement": "hard"},
            {"quantity": "cost_eur", "limit": 8.0, "window": "30d", "enforcement": "soft"},
        ]
    }
    solyx("budgets", "--tenant", "vision", "--clear")
    assert json.loads(gateway.requests[-1].content) == {"budgets": []}


@pytest.mark.parametrize("wrong", ["gpu_h", "gpu_h=many/day", "gpu_h=5", "gpu_h=5/day/maybe"])
def test_a_budget_that_is_not_understood_is_refused_before_anything_is_sent(
    solyx: Solyx, gateway: Any, wrong: str
) -> None:
    answer = solyx("budgets", "--tenant", "vision", "--set", wrong)
    assert answer.status == 2
    assert "QUANTITY=LIMIT/WINDOW" in answer.err
    assert solyx("budgets", "--set", "gpu_h=5/day").status == 2
    assert gateway.requests == []
