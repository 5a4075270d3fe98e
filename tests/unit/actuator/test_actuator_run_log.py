"""The checkers over the run log find what must not happen, and nothing else."""

from __future__ import annotations

from datetime import timedelta

from services.actuator.model import Phase
from services.actuator.simulated.run_log import Run, doubled, overcommitted
from solyx.events import DeviceAssignment, DeviceGroup, Node, PodAssignment, WorkloadReason
from tests.unit.actuator.actuator_cases import START

NODES = {"paris": [Node(name="n1", cpu_milli=2000, memory_bytes=8, devices=(DeviceGroup(model="A100", count=1),))]}


def run(
    job: str,
    start_s: float,
    end_s: float | None,
    *,
    site: str = "paris",
    cpu: int = 1000,
    share: int = 500,
    revision: int = 1,
) -> Run:
    device = DeviceAssignment(model="A100", index=0, share_milli=share)
    return Run(
        site=site,
        job_id=job,
        revision=revision,
        pods=(PodAssignment(index=0, node="n1", devices=(device,)),),
        cpu_milli=cpu,
        memory_bytes=4,
        started_at=START + timedelta(seconds=start_s),
        ended_at=None if end_s is None else START + timedelta(seconds=end_s),
        phase=Phase.RUNNING if end_s is None else Phase.SUCCEEDED,
        reason=WorkloadReason.APPLIED,
    )


def test_runs_of_a_job_one_after_the_other_are_not_doubled():
    assert doubled([run("a", 0, 10), run("a", 10, 20, site="oslo"), run("b", 5, 15)]) == []


def test_runs_of_a_job_that_overlap_are_found_at_whatever_sites():
    first, second = run("a", 0, 10), run("a", 9, 20, site="oslo")
    assert doubled([second, first]) == [(first, second)]


def test_a_run_that_ended_as_it_started_overlaps_with_nothing():
    died, next_one = run("a", 5, 5), run("a", 5, None, site="oslo", revision=2)
    assert doubled([next_one, died]) == []


def test_an_endless_run_doubles_every_later_one():
    first, second = run("a", 0, None), run("a", 50, 60)
    assert doubled([first, second]) == [(first, second)]


def test_a_short_run_inside_a_long_one_does_not_hide_the_next():
    long, short, late = run("a", 0, 100), run("a", 10, 20), run("a", 50, 60)
    assert doubled([long, short, late]) == [(long, short), (long, late)]


def test_what_fits_is_not_overcommitted_even_when_one_follows_another_at_once():
    assert overcommitted([run("a", 0, 10), run("b", 0, 5), run("c", 5, 10)], NODES) == []


def test_too_much_of_a_device_a_cpu_or_an_unknown_node_is_found():
    (device,) = overcommitted([run("a", 0, 10), run("b", 5, None, share=600)], NODES)
    assert "gpu/A100/0" in device
    assert "1100 of 1000" in device
    (cpu,) = overcommitted([run("a", 0, 10), run("b", 9, 12, cpu=1500)], NODES)
    assert "cpu of node n1 at 2500 of 2000" in cpu
    assert overcommitted([run("a", 0, 10, site="oslo")], NODES)
