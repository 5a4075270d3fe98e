"""Two weeks of the year scenario: the published bounds hold, and the same run writes the same bytes.

What runs at once is compared with the naive sum, hour by hour; the rest with bounds on every job by itself with perfect knowledge.
A policy below its own kind's bound reads the scenario differently, or cheats.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from simulator.__main__ import main
from simulator.experiment import Experiment, Settings, with_gaps
from simulator.policies import BASELINES
from solyx.scenario import load
from tests.data import shared_data

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.bill import Summary
    from simulator.experiment import Result

SINCE = datetime(2023, 1, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=14)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    scenario = load(shared_data() / "scenarios" / "grids-2023-year")
    return Experiment(scenario, SINCE, UNTIL, Settings(forecast_every_h=12))


@pytest.fixture(scope="module")
def rows(experiment: Experiment) -> dict[str, Summary]:
    results = [experiment.run(name) for name in ("solyx", *BASELINES, "oracle")]
    return {row.policy: row for row in with_gaps(results)}


def at_once(experiment: Experiment, site: int | None) -> float:
    """Σ over jobs of running at once: at home (None) or at one site; by the naive formula, hour by hour."""
    world, total = experiment.world, 0.0
    rate = world.price + world.carbon * 0.1
    for job in experiment.workload.jobs:
        here = job.home if site is None else site
        power_mw = world.sites[here].power.dynamic_w(cores=job.cores, gpus=0.0) / 1e6
        at, end = job.arrival_s / 3600, (job.arrival_s + job.true_duration_s) / 3600
        while at < end:
            until = min(np.floor(at) + 1, end)
            total += power_mw * rate[here, int(at) - world.first_hour] * (until - at)
            at = until
        total += 0.0 if here == job.home else job.data_gib * world.egress_eur_per_gib[job.home]
    return total


def test_at_once_at_home_is_the_naive_sum(experiment: Experiment, rows: dict[str, Summary]) -> None:
    assert rows["at-home"].objective_eur == pytest.approx(at_once(experiment, None), rel=1e-9)


def test_everything_at_the_site_that_is_best_on_average_is_the_naive_sum_with_every_egress(
    experiment: Experiment, rows: dict[str, Summary]
) -> None:
    sums = [at_once(experiment, site) for site in range(len(experiment.world.sites))]
    assert rows["best-on-average"].objective_eur == pytest.approx(min(sums), rel=0.01)


def test_no_policy_is_below_the_lower_bound(rows: dict[str, Summary]) -> None:
    bound = rows["oracle"].objective_eur
    assert all(row.objective_eur > bound for name, row in rows.items() if name != "oracle")
    assert all((row.oracle_gap or 0.0) > 0.0 for name, row in rows.items() if name != "oracle")


def test_what_cannot_pause_is_not_below_the_bound_without_pauses(
    experiment: Experiment, rows: dict[str, Summary]
) -> None:
    bound = experiment.bound(100.0)
    assert bound.alone_eur <= bound.contiguous_eur
    assert bound.alone_eur <= bound.objective_eur
    for name in ("at-home", "cheapest-now", "lowest-window", "carbon-time", "threshold"):
        assert rows[name].objective_eur > bound.contiguous_eur
    assert rows["solyx"].suspensions > 0 or rows["solyx"].objective_eur > bound.contiguous_eur


def test_solyx_is_below_every_baseline_that_waits_as_long_or_longer(rows: dict[str, Summary]) -> None:
    ours = rows["solyx"]
    others = [rows[name] for name in BASELINES if rows[name].mean_wait_h >= ours.mean_wait_h]
    assert {row.policy for row in others} >= {"threshold", "lowest-window", "carbon-time", "suspend-resume"}
    assert all(ours.objective_eur < row.objective_eur for row in others)


def test_every_job_ends_and_does_its_work_once(experiment: Experiment, rows: dict[str, Summary]) -> None:
    work_h = float((experiment.workload.cores * experiment.workload.duration_s).sum()) / 3600
    for name, row in rows.items():
        assert row.finished == row.jobs
        if name != "oracle" and row.suspensions + row.migrations == 0:
            used_h = row.utilisation * float(experiment.world.cores.sum()) * 14 * 24
            assert used_h == pytest.approx(work_h)


def test_no_site_is_ever_given_more_cores_than_it_has(experiment: Experiment) -> None:
    for name in ("solyx", "cheapest-now", "suspend-resume"):
        result = experiment.run(name)
        assert result.runs is not None
        table = result.runs.table()
        cores = experiment.workload.cores[table.job]
        for site, most in enumerate(experiment.world.cores):
            here = table.site == site
            times = np.concatenate((table.start_s[here], table.end_s[here]))
            change = np.concatenate((cores[here], -cores[here]))
            use = np.cumsum(change[np.lexsort((change, times))])
            assert use.max(initial=0.0) <= most + 1e-6


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    directory = str(shared_data() / "scenarios" / "grids-2023-year")
    arguments = ["--scenario", directory, "--policy", "solyx,carbon-time,oracle", "--seed", "7"]
    arguments += ["--from", "2023-01-01", "--to", "2023-01-02", "--forecast-every-h", "12"]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "two"), "--no-plots"]) == 0
    for name in ("metrics.json", "metrics_summary.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    plots = {file.name for file in (tmp_path / "one").glob("*.png")}
    assert plots == {"jobs_by_site.png", "policies.png", "power_price_carbon.png", "queue.png"}


def test_an_unknown_policy_or_an_empty_span_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(shared_data() / "scenarios" / "grids-2023-year")
    arguments = ["--scenario", directory, "--out", str(tmp_path / "out")]
    assert main([*arguments, "--policy", "magic"]) == 2
    assert main([*arguments, "--from", "2020-01-01", "--to", "2020-01-02"]) == 2
    told = capsys.readouterr().err
    assert "No policy is named magic" in told
    assert "no job of grids-2023-year arrives" in told


@pytest.fixture(scope="module")
def gpus() -> Experiment:
    """Pods of a GPU cluster: some run already and stay where they are, some ask for models that few sites have, most may not pause."""
    scenario = load(shared_data() / "scenarios" / "grids-2023")
    return Experiment(scenario, scenario.start, scenario.start + timedelta(days=3), Settings(forecast_every_h=12))


@pytest.fixture(scope="module")
def gpu_rows(gpus: Experiment) -> dict[str, Result]:
    results = [gpus.run(name) for name in ("solyx", *BASELINES, "foresight", "clairvoyant", "oracle")]
    return {row.summary.policy: row for row in results}


def test_no_job_runs_where_it_may_not_or_where_no_node_holds_it(gpus: Experiment, gpu_rows: dict[str, Result]) -> None:
    jobs = gpus.workload.jobs
    assert any(job.spec.allowed_sites for job in jobs)
    assert any(not job.spec.allowed_sites and len(job.sites) < len(gpus.world.sites) for job in jobs)
    for result in gpu_rows.values():
        if result.runs is not None:
            table = result.runs.table()
            assert all(site in jobs[job].sites for job, site in zip(table.job, table.site, strict=True))


def test_no_policy_is_below_the_bound_where_most_jobs_may_not_pause(gpu_rows: dict[str, Result]) -> None:
    bound = gpu_rows["oracle"].summary.objective_eur
    others = {name: row.summary for name, row in gpu_rows.items() if name != "oracle"}
    assert all(row.objective_eur > bound for row in others.values())
    assert others["solyx"].objective_eur < min(others[name].objective_eur for name in BASELINES)
