"""The main job of the platform on real prices, carbon, inventory and jobs, for less long than its own command runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import shared_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_two_and_a_half_real_days_cost_less_money_and_carbon_than_at_once_at_home(tmp_path: Path) -> None:
    scenario = shared_data() / "scenarios" / "grids-2023"
    report = tmp_path / "r.json"
    arguments = ["--scenario", str(scenario), "--speed", "4800", "--for", "45", "--report", str(report)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "run"), *arguments, "--state", str(tmp_path / "state"), "--api-port", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(report.read_text())
    assert outcome["scenario_hours"] >= 59
    assert outcome["jobs"]["lost"] == 0
    assert outcome["jobs"]["failed"] == 0
    assert outcome["jobs"]["succeeded"] > 300
    assert outcome["cost_eur"] < outcome["baseline"]["cost_eur"]
    assert outcome["carbon_kg"] < outcome["baseline"]["carbon_kg"]
