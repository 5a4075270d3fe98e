"""The two real scenarios, read in place."""

from collections import Counter

import pytest

from solyx.scenario import load
from tests.data import shared_data


def test_the_gpu_scenario_has_the_inventory_and_the_use_that_its_file_states():
    scenario = load(shared_data() / "scenarios" / "grids-2023")
    nodes = [node for site in scenario.sites for node in site.nodes]
    assert len(nodes) == 39
    assert sum(device.count for node in nodes for device in node.devices) == 168
    assert sum(node.cpu_milli for node in nodes) == 3_168_000
    assert scenario.unread_keys == ()

    jobs = list(scenario.jobs())
    assert Counter("solyx.io/running-at-start" in job.spec.labels for job in jobs) == {False: 3035, True: 43}
    span_s = max(job.arrival_s + job.true_duration_s for job in jobs)
    assert sum(job.spec.resources.gpu_milli * job.true_duration_s for job in jobs) / 1000 / span_s == pytest.approx(
        44, abs=1
    )
    assert sum(job.spec.resources.cpu_milli * job.true_duration_s for job in jobs) / 1000 / span_s == pytest.approx(
        550, abs=5
    )
    assert {job.tenant for job in jobs} == {f"tenant-{index}" for index in range(8)}


def test_the_gpu_scenario_has_its_network_and_traffic():
    scenario = load(shared_data() / "scenarios" / "grids-2023")
    assert len(scenario.network.links) == 38
    assert [site.network_node for site in scenario.sites] == ["2", "5", "9", "7"]
    rates = scenario.link_rates(0)
    assert rates != scenario.link_rates(300)
    assert rates == scenario.link_rates(36 * 300)
    assert all(0 <= rates[link.name] <= link.capacity_bps for link in scenario.network.links)


def test_the_energy_of_a_real_grid_has_its_gap_of_48_hours():
    scenario = load(shared_data() / "scenarios" / "grids-2023")
    energy = scenario.energy("frankfurt")
    assert len(energy.price_eur_per_mwh) == 26_280
    assert int((energy.price_eur_per_mwh != energy.price_eur_per_mwh).sum()) == 48
    assert (energy.price_eur_per_mwh[energy.index(scenario.start) :] < 0).any()


def test_the_year_of_batch_jobs_has_the_gangs_that_its_file_states():
    scenario = load(shared_data() / "scenarios" / "grids-2023-year")
    jobs = list(scenario.jobs())
    assert len(jobs) == 99_998
    assert sum(job.spec.parallelism > 1 for job in jobs) == 1209
    assert (
        sum(
            job.spec.parallelism * 32 > 256 and job.spec.parallelism * job.spec.resources.cpu_milli > 256_000
            for job in jobs
        )
        == 3
    )
    assert all(job.spec.resources.cpu_milli <= 32_000 and job.spec.suspendable for job in jobs)
    assert scenario.job_source.suspend_overhead_s == 60
    assert scenario.sites[0].latency_ms == {"california": 144.0, "texas": 116.0, "newyork": 80.0}
