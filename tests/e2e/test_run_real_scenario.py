"""The platform's main job on real prices, carbon, inventory and jobs: ten days of four grids in two minutes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data import shared_data

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = {"kafka", "postgres", "gateway", "collector", "forecaster", "cmo", "drm", "sdn", "actuator"}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of `./run --scenario …/grids-2023 --speed 7200 --for 120 --report r.json`, in a place of its own."""
    scenario = shared_data() / "scenarios" / "grids-2023"
    directory = tmp_path_factory.mktemp("grids-2023")
    report = directory / "r.json"
    command = ["--scenario", str(scenario), "--speed", "7200", "--for", "120", "--report", str(report)]
    of_its_own = ["--state", str(directory / "state"), "--api-port", "0"]  # beside whatever else runs on this machine
    done = subprocess.run(
        [sys.executable, str(ROOT / "run"), *command, *of_its_own],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=560,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(report.read_text())


pytestmark = pytest.mark.timeout(600)  # two minutes of it are the run itself


def test_ten_real_days_lose_no_job_and_fail_none(outcome: dict[str, Any]) -> None:
    assert outcome["scenario_hours"] >= 239
    jobs = outcome["jobs"]
    assert jobs["lost"] == 0
    assert jobs["failed"] == 0
    assert jobs["succeeded"] > 1200


def test_ten_real_days_cost_less_money_and_carbon_than_at_once_at_home(outcome: dict[str, Any]) -> None:
    assert 0 < outcome["cost_eur"] < outcome["baseline"]["cost_eur"]
    assert 0 < outcome["carbon_kg"] < outcome["baseline"]["carbon_kg"]
    assert outcome["energy_kwh"] > 0
    assert outcome["baseline"]["energy_kwh"] > 0


def test_the_report_has_every_figure_it_promises(outcome: dict[str, Any]) -> None:
    states = {"submitted", "placed", "allocated", "running", "succeeded", "failed", "cancelled"}
    assert states | {"lost"} <= set(outcome["jobs"])
    assert outcome["jobs"]["total"] == sum(outcome["jobs"][state] for state in states)
    assert 0 < outcome["latency_ms"]["p50"] <= outcome["latency_ms"]["p99"]
    assert outcome["events_per_s"] > 0
    assert set(outcome["services"]) == PROCESSES
    for name, service in outcome["services"].items():
        assert service["ready_s"] > 0, name
        assert service["rss_mb"] > 0, name
        assert service["restarts"] == 0, name
