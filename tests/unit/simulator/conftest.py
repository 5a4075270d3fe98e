"""A hand-made scenario: two sites with one node each, prices that a reader can add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

START = datetime(2023, 3, 6, tzinfo=UTC)
_HISTORY_DAYS, _AHEAD_DAYS = 30, 6


def energy_csv(price_of_hour: Callable[[int], float], carbon: float) -> str:
    """From 30 days before the start to six days after it; ``price_of_hour`` is given the hour after the start."""
    rows = ["time,price_eur_mwh,carbon_gco2_kwh,renewable_pct"]
    for hour in range(-24 * _HISTORY_DAYS, 24 * _AHEAD_DAYS):
        at = (START + timedelta(hours=hour)).isoformat().replace("+00:00", "Z")
        rows.append(f"{at},{price_of_hour(hour)},{carbon},0")
    return "\n".join(rows) + "\n"


@pytest.fixture
def make_scenario(tmp_path: Path) -> Callable[..., Path]:
    """Writes a scenario: jobs as (arrival h, length h, cores), prices by hour for the sites `a` (home of all) and `b`."""

    def make(
        jobs: Sequence[tuple[float, float, float]],
        *,
        home: Callable[[int], float] = lambda _hour: 100.0,
        away: Callable[[int], float] = lambda _hour: 100.0,
        carbon: float = 0.0,
        egress: float = 0.0,
        nodes: int = 1,
        home_cpu: int = 10,
        away_cpu: int = 10,
    ) -> Path:
        (tmp_path / "a.csv").write_text(energy_csv(home, carbon))
        (tmp_path / "b.csv").write_text(energy_csv(away, carbon))
        (tmp_path / "jobs.csv").write_text(
            "arrival_time,length,cpus\n" + "".join(f"{a},{length},{cpus}\n" for a, length, cpus in jobs)
        )
        sites = "".join(
            f"""
[[sites]]
name = "{name}"
energy = {{ zone = "{name.upper()}", file = "{name}.csv", published = "12:45", timezone = "UTC" }}
nodes = {{ count = {nodes}, cpu = {cpu}, memory_gib = 64 }}
power = {{ idle_w_per_node = 100, w_per_core = 100, pue = 1.0 }}
"""
            for name, cpu in (("a", home_cpu), ("b", away_cpu))
        )
        (tmp_path / "scenario.toml").write_text(
            f"""
name = "hand-made"
start = {START.isoformat().replace("+00:00", "Z")}
[jobs]
file = "jobs.csv"
format = "arrival-length-cpus"
tenants = 1
max_delay_h = 24
suspendable = true
suspend_overhead_s = 60
data_gib = {{ per_cpu = 1 }}
egress_eur_per_gib = {egress}
{sites}
[network]
links = [{{ a = "a", b = "b", capacity_gbps = 10, latency_ms = 5 }}]
"""
        )
        return tmp_path

    return make
