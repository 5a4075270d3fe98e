"""Which jobs are refused, in which words, and which wait."""

import msgspec
import pytest

from solyx.events import (
    NOWHERE,
    DeferralCause,
    FinishReason,
    JobFinished,
    JobPlaced,
    WorkloadReason,
)
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    core,
    deferrals,
    flat,
    node,
    only,
    outcomes,
    placed_job,
    placements,
    report,
    site,
    submitted,
)


def refused(cmo, now=0.0) -> JobFinished:
    finished = only(cmo.decide(at(now)))
    assert isinstance(finished, JobFinished)
    assert (finished.outcome, finished.site, finished.revision) == ("failed", NOWHERE, 0)
    return finished


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"cores": 64}, "a pod needs 64 cores on one node; the most on a node at any site (a, b) is 8"),
        (
            {"memory_gib": 65},
            "a pod needs 65 GiB of memory on one node; the most on a node at any site (a, b) is 64 GiB",
        ),
        (
            {"cores": 64, "gpus": 1},
            "a pod needs 64 cores and 1 gpu on one node; the most on a node at any site (a, b) is 8 and 0",
        ),
        (
            {"cores": 64, "memory_gib": 65, "gpus": 2, "sites": ("a",)},
            "a pod needs 64 cores, 65 GiB of memory and 2 gpu on one node; the most on a node at the allowed sites (a) is 8, 64 GiB and 0",
        ),
        ({"gpus": 1}, "a pod needs 1 gpu on one node; the most on a node at any site (a, b) is 0"),
        (
            {"gpus": 2, "models": ("A100", "H100"), "sites": ("a",)},
            "a pod needs 2 gpu of A100 or H100 on one node; the most on a node at the allowed sites (a) is 0",
        ),
        ({"cores": 5, "pods": 9}, "needs 9 pods at a time; the largest site, a, holds 1"),
    ],
)
def test_a_job_that_no_site_can_ever_hold_is_refused_with_the_figure(job, words):
    finished = refused(core(*flat("a", "b"), submitted(**job)))
    assert finished.reason is FinishReason.NO_SITE_FITS
    assert finished.message == words


def test_a_pod_whose_parts_fit_only_different_nodes_is_refused():
    cmo = core(site("a", node("1", cores=32), node("2", gpus=1)), submitted(cores=32, gpus=1))
    assert refused(cmo).message == "no single node at any site (a) has the cores, memory and devices of a pod together"


def test_unknown_allowed_sites_are_refused_by_name():
    finished = refused(core(*flat("a"), submitted(sites=("mars", "moon"))))
    assert (finished.reason, finished.message) == (FinishReason.UNKNOWN_SITE, "no site is named mars, moon")


def test_a_place_out_of_reach_is_refused_with_the_nearest():
    events = [site("a", latency={"office": 80}), site("b", latency={"office": 30})]
    finished = refused(core(*events, submitted(latency=("office", 20))))
    assert finished.reason is FinishReason.LATENCY_UNREACHABLE
    assert finished.message == "asks for 20 ms to office; the nearest site that can hold it is b with 30 ms (declared)"
    unknown = refused(core(*events, submitted(latency=("mars", 20))))
    assert unknown.message == "no site that can hold it knows its latency to mars"


@pytest.mark.parametrize(
    ("deadline", "words"),
    [
        (1.5, "needs 2 h; the deadline 2023-06-01T01:30+00:00 is 1.5 h away"),
        (-1, "needs 2 h; the deadline 2023-05-31T23:00+00:00 is 1 h ago"),
    ],
)
def test_an_impossible_deadline_is_refused(deadline, words):
    finished = refused(core(*flat("a"), submitted(runs=2, deadline=deadline)))
    assert (finished.reason, finished.message) == (FinishReason.DEADLINE_PASSED, words)


def test_a_retry_that_cannot_meet_the_deadline_ends_the_job():
    cmo, placed = placed_job(job=submitted(runs=2, deadline=3))
    cmo.fold(report(placed, "failed", 2))
    finished = only(cmo.decide(at(2)))
    assert (finished.outcome, finished.reason, finished.revision) == ("failed", FinishReason.DEADLINE_PASSED, 1)


def test_before_any_inventory_jobs_wait():
    cmo = core(submitted(), submitted("late", deadline=-1))
    assert cmo.decide(T0) == []
    for event in flat("a"):
        cmo.fold(event)
    assert {type(decision) for decision in cmo.decide(at(1))} == {JobPlaced, JobFinished}


def test_nothing_is_refused_while_sites_are_still_appearing():
    cmo = core(*flat("a"), submitted("far", sites=("b",)), submitted("large", cores=64), settle_s=60.0)
    assert cmo.decide(T0) == []
    for event in flat("b"):
        cmo.fold(event)
    assert only(cmo.decide(at(0.5 / 60))).job_id == "far"
    assert cmo.decide(at(1 / 60)) == []
    assert only(cmo.decide(at(1.6 / 60))).reason is FinishReason.NO_SITE_FITS


def test_while_sites_are_still_appearing_only_what_is_not_about_them_is_told():
    down = site("a", node(ready=False))
    cmo = core(down, submitted("early", runs=2), submitted("late", deadline=1, runs=2), settle_s=60.0)
    late = only(cmo.decide(T0))
    assert (late.job_id, late.reason) == ("late", FinishReason.DEADLINE_PASSED)
    early = only(cmo.decide(at(1.1 / 60)))
    assert (early.job_id, early.reason) == ("early", DeferralCause.NO_READY_SITE)


def test_a_job_whose_nodes_are_down_waits_for_them():
    down = site("a", node(ready=False), node(cores=1))
    cmo = core(down, submitted(cores=8, deadline=10, runs=2))
    assert only(cmo.decide(T0)).reason is DeferralCause.NO_READY_SITE
    cmo.fold(site("a", node(), node(cores=1), hours=1))
    assert only(cmo.decide(at(1))).site == "a"


def test_a_waiting_job_ends_when_its_deadline_can_no_longer_be_met():
    cmo = core(site("a", node(ready=False)), submitted(deadline=10, runs=2))
    assert only(cmo.decide(T0)).reason is DeferralCause.NO_READY_SITE
    assert cmo.decide(at(8)) == []
    assert only(cmo.decide(at(8.1))).reason is FinishReason.DEADLINE_PASSED


def test_a_job_that_goes_on_past_its_deadline_waits_for_a_site_and_is_not_looked_at_in_every_decision():
    made = core(*flat("a"), submitted(cores=2, runs=2, suspendable=True, deadline=4))
    placed = only(placements(made.decide(at(0))))
    made.fold(report(placed, "started", 0))
    made.decide(at(0))
    made.fold(site("a", node(ready=False), hours=1))
    stopped = report(placed, "stopped", 1, reason=WorkloadReason.RELEASED)
    made.fold(msgspec.structs.replace(stopped, progress_s=3600.0, started_at=at(0)))
    only(deferrals(made.decide(at(1))))
    assert not made.decide(at(5))
    assert len(made._timers) == 0
    made.fold(site("a", hours=6))
    assert only(placements(made.decide(at(6)))).progress_s == 3600.0


def test_a_job_that_waits_is_told_of_its_deadline_once_however_often_sites_change():
    made = core(*flat("a"), site("a", node(ready=False), hours=0.1), submitted(cores=2, deadline=4))
    for n in range(1, 10):
        made.fold(site("a", node(f"n{n}", ready=False), hours=0.1 + n / 60))
        made.decide(at(0.1 + n / 60))
    assert len(made._timers) == 1
    assert only(outcomes(made.decide(at(3.5)))).reason is FinishReason.DEADLINE_PASSED
