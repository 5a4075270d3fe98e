"""What meters of a run read is billed in place of what the power model says, and only once."""

import msgspec
import pytest

from solyx.events import WorkloadReason
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    carbon,
    core,
    deferrals,
    energy_read,
    node,
    only,
    outcomes,
    placements,
    prices,
    report,
    site,
    submitted,
)

KWH_J = 3.6e6
WORLD = [
    site("a", node(gpus=2)),
    prices("a", *[100.0] * 24, *[100.0, 300.0], *[100.0] * 70, start=-24),
    carbon("a", *[500.0] * 96, start=-24),
]
"""One site: a core draws 10 W and a GPU 300 W; the second hour from T0 is three times as dear as the others."""


def started(job=None, world=WORLD):
    """A job that runs from T0 on: 1 core, 1 GPU."""
    cmo = core(*world, job or submitted(gpus=1, runs=2, max_delay=0))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started"))
    assert cmo.decide(T0) == []
    return cmo, placed


def billed(cmo, placed, hours=2.0):
    """The usage of the job when it succeeds then."""
    cmo.fold(report(placed, "succeeded", hours, reason=WorkloadReason.COMPLETED))
    return only(outcomes(cmo.decide(at(hours)))).usage


def test_without_meters_the_energy_is_modelled_and_said_to_be():
    usage = billed(*started())
    assert (usage.energy_kwh, usage.measured_kwh) == (pytest.approx(0.62), 0.0)


def test_a_counter_that_covers_the_run_replaces_the_model():
    cmo, placed = started()
    for hours, kwh in ((0, 7.0), (1, 7.1), (2, 7.4)):
        cmo.fold(energy_read(placed, hours, kwh * KWH_J))
    usage = billed(cmo, placed)
    assert usage.energy_kwh == usage.measured_kwh == pytest.approx(0.4)
    assert usage.carbon_kg == pytest.approx(0.2)
    assert usage.cost_eur == pytest.approx(0.1 * 0.1 + 0.3 * 0.3), "each hour at its own price"
    assert (usage.cpu_h, usage.gpu_h) == (2.0, 2.0)


def test_what_no_meter_covers_is_modelled():
    cmo, placed = started()
    cmo.fold(energy_read(placed, 0.5, 0.0))
    cmo.fold(energy_read(placed, 1.0, 0.2 * KWH_J))
    usage = billed(cmo, placed)
    assert usage.measured_kwh == pytest.approx(0.2)
    assert usage.energy_kwh == pytest.approx(0.2 + 1.5 * 0.31)


def test_readings_beyond_the_run_do_not_count():
    cmo, placed = started()
    cmo.fold(energy_read(placed, -1, 0.0))
    cmo.fold(energy_read(placed, 3, 4.0 * KWH_J))
    assert billed(cmo, placed).energy_kwh == pytest.approx(2.0)


def test_a_meter_of_the_processors_leaves_the_accelerators_to_the_model():
    cmo, placed = started()
    for hours in (0, 2):
        cmo.fold(energy_read(placed, hours, hours * 0.05 * KWH_J, part="cpu"))
    usage = billed(cmo, placed)
    assert usage.measured_kwh == pytest.approx(0.1)
    assert usage.energy_kwh == pytest.approx(0.1 + 0.6)


def test_two_meters_of_one_pod_add_up():
    cmo, placed = started()
    for hours in (0, 2):
        cmo.fold(energy_read(placed, hours, hours * 0.05 * KWH_J, part="cpu", meter="package"))
        cmo.fold(energy_read(placed, hours, hours * 0.01 * KWH_J, part="cpu", meter="dram"))
        cmo.fold(energy_read(placed, hours, hours * 0.2 * KWH_J, part="gpu"))
    usage = billed(cmo, placed)
    assert usage.energy_kwh == usage.measured_kwh == pytest.approx(0.52)


def test_of_a_gang_the_pods_without_a_meter_are_modelled():
    cmo, placed = started(submitted(gpus=1, pods=2, runs=2, max_delay=0))
    for hours in (0, 2):
        cmo.fold(energy_read(placed, hours, hours * 0.1 * KWH_J))
    usage = billed(cmo, placed)
    assert usage.measured_kwh == pytest.approx(0.2)
    assert usage.energy_kwh == pytest.approx(0.2 + 0.62)


def test_two_meters_of_one_pod_of_a_gang_cover_one_pod():
    cmo, placed = started(submitted(gpus=1, pods=2, runs=2, max_delay=0))
    for hours in (0, 2):
        for zone in ("package", "dram"):
            cmo.fold(energy_read(placed, hours, hours * 0.05 * KWH_J, meter=zone))
    usage = billed(cmo, placed)
    assert usage.energy_kwh == pytest.approx(0.2 + 0.62)


def test_a_counter_that_begins_anew_goes_on_counting():
    cmo, placed = started()
    for hours, kwh in ((0, 5.0), (0.5, 5.1), (1.0, 0.05), (2.0, 0.2)):
        cmo.fold(energy_read(placed, hours, kwh * KWH_J))
    assert billed(cmo, placed).measured_kwh == pytest.approx(0.1 + 0.2)


def test_a_gauge_is_integrated_where_its_readings_are_close():
    cmo, placed = started()
    for minutes in range(0, 61, 4):
        cmo.fold(energy_read(placed, minutes / 60, watts=200.0))
    cmo.fold(energy_read(placed, 1.5, watts=900.0))
    cmo.fold(energy_read(placed, 1.55, watts=100.0))
    usage = billed(cmo, placed)
    assert usage.measured_kwh == pytest.approx(0.2 + 0.5 * 0.05)
    assert usage.energy_kwh == pytest.approx(usage.measured_kwh + 0.95 * 0.31)


def test_measured_power_is_taken_to_the_meter_of_the_site():
    dear = msgspec.structs.replace(WORLD[0], power=msgspec.structs.replace(WORLD[0].power, pue=1.5))
    cmo, placed = started(world=[dear, *WORLD[1:]])
    for hours in (0, 2):
        cmo.fold(energy_read(placed, hours, hours * 0.1 * KWH_J))
    assert billed(cmo, placed).energy_kwh == pytest.approx(0.3)


def test_repeats_and_late_readings_change_nothing():
    cmo, placed = started()
    readings = [energy_read(placed, hours / 10, hours * 0.01 * KWH_J) for hours in range(21)]
    for reading in (*readings, *readings[5:], *readings):
        cmo.fold(reading)
    assert billed(cmo, placed).measured_kwh == pytest.approx(0.2)


def test_each_run_is_billed_by_its_own_readings():
    cmo, first = started()
    for hours, joules in ((0, 0.0), (1, 0.1 * KWH_J)):
        cmo.fold(energy_read(first, hours, joules))
    cmo.fold(report(first, "failed", 1, reason=WorkloadReason.NODE_LOST))
    second = only(placements(cmo.decide(at(1))))
    assert second.used.measured_kwh == pytest.approx(0.1)
    cmo.fold(report(second, "started", 1))
    for hours, joules in ((1, 0.0), (3, 0.4 * KWH_J)):
        cmo.fold(energy_read(second, hours, joules))
    cmo.fold(energy_read(first, 3, 9 * KWH_J))
    usage = billed(cmo, second, 3)
    assert usage.energy_kwh == usage.measured_kwh == pytest.approx(0.5)


def test_what_was_told_of_a_run_is_not_changed_by_readings_that_come_later():
    cmo, placed = started()
    cmo.fold(energy_read(placed, 0, 0.0))
    cmo.fold(site("a", node(gpus=2, ready=False), hours=1))
    cmo.fold(report(placed, "stopped", 1, reason=WorkloadReason.RELEASED))
    told = only(deferrals(cmo.decide(at(1)))).runs
    assert told[0].usage.energy_kwh == pytest.approx(0.31)
    cmo.fold(energy_read(placed, 1, 0.9 * KWH_J))
    cmo.fold(site("a", node(gpus=2), hours=2))
    assert only(placements(cmo.decide(at(2)))).runs == told


def test_readings_that_come_before_the_placement_count():
    _, placed = started()
    recovered = core(*WORLD)
    for hours in (0, 2):
        recovered.fold(energy_read(placed, hours, hours * 0.1 * KWH_J))
    recovered.decide(at(1))
    for event in (submitted(gpus=1, runs=2, max_delay=0), placed, report(placed, "started")):
        recovered.fold(event)
    assert billed(recovered, placed).measured_kwh == pytest.approx(0.2)


def test_nothing_is_kept_of_jobs_that_are_over_or_that_nobody_knows():
    cmo, placed = started()
    cmo.fold(energy_read(placed, 0, 0.0))
    stranger = msgspec.structs.replace(energy_read(placed, 0, 0.0), job_id="stranger")
    cmo.fold(stranger)
    billed(cmo, placed)
    cmo.fold(energy_read(placed, 2, 5.0))
    assert list(cmo._accounts.readings._jobs) == ["stranger"]
    cmo.decide(at(23))
    assert list(cmo._accounts.readings._jobs) == ["stranger"]
    cmo.decide(at(25))
    assert not cmo._accounts.readings._jobs
