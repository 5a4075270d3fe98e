"""Room for work of high priority where all sites are full: at which site, at whose cost, and what becomes of them."""

from datetime import timedelta

import pytest

from services.cmo.core.yielding import pods_in_place_of
from solyx.events import PlacementReason, Victim, WithdrawalReason, WorkloadReason
from tests.unit.cmo.cmo_builders import (
    at,
    cancelled,
    cap,
    core,
    flat,
    node,
    only,
    placements,
    report,
    running,
    series,
    site,
    submitted,
    withdrawals,
)

NOW = 5.0
SITES = ("a", "b", "c")


def low(job_id, *, cores=8, runs=100.0, **options):
    """Work that may be stopped."""
    return submitted(job_id, cores=cores, runs=runs, **{"preemptible": True, "suspendable": True, **options})


def urgent(job_id="urgent", *, cores=8, runs=2.0, **options):
    return submitted(job_id, cores=cores, runs=runs, hours=NOW, **{"priority": 9, "max_delay": 0, **options})


def full(*lives, names=SITES, **policy):
    """Sites of eight cores, and what runs there: lists of job, site and start."""
    events = [event for job, name, hours in lives for event in running(job, name, hours)]
    cmo = core(*flat(*names), *events, **policy)
    assert placements(cmo.decide(at(NOW))) == []
    return cmo


def head_of(cmo, job=None):
    cmo.fold(job or urgent())
    return only(placements(cmo.decide(at(NOW))))


def named(placed):
    return {victim.job_id for victim in placed.victims}


# --------------------------------------------------------------------------------------------------------- at whose cost


@pytest.mark.parametrize(
    ("at_a", "at_b", "at_c"),
    [
        ([low("x", priority=1)], [low("y", priority=1)], [low("z")]),
        ([low("x", suspendable=False)], [low("y", suspendable=False)], [low("z")]),
        ([low("x", cores=4), low("x2", cores=4)], [low("y", cores=4), low("y2", cores=4)], [low("z")]),
        ([low("x", preemptible=False)], [low("y", priority=9)], [low("z", priority=8)]),
        ([low("x", deadline=101.0)], [low("y", deadline=101.0)], [low("z")]),
        ([low("x", cores=8)], [low("y", cores=8)], [low("z", cores=6), low("z2", cores=2, preemptible=False)]),
    ],
    ids=[
        "of the lowest priority",
        "that lose no work",
        "that are few",
        "that may be stopped at all",
        "that keep their own deadlines",
        "that take the least energy to begin anew",
    ],
)
def test_the_site_is_taken_whose_victims_cost_least(at_a, at_b, at_c):
    lives = [(job, name, 0.0) for name, jobs in zip(SITES, (at_a, at_b, at_c), strict=True) for job in jobs]
    cmo = full(*lives, restart_s=60.0)
    cores = 6 if len(at_c) == 2 else 8
    placed = head_of(cmo, urgent(cores=cores))
    assert placed.site == "c"
    assert placed.victims == (Victim(job_id="z", revision=1),)
    assert placed.start_at == at(NOW)
    assert placed.bound_by.endswith("waits in the site's queue until 1 of lower priority has made room")


def test_of_two_that_lose_their_work_the_one_that_did_less_is_stopped():
    cmo = full(
        *(
            (low(job_id, suspendable=False), name, hours)
            for job_id, name, hours in zip("xyz", SITES, (0.0, 4.0, 2.0), strict=True)
        )
    )
    assert named(head_of(cmo)) == {"y"}


def test_whoever_can_go_on_elsewhere_at_once_is_stopped_before_one_that_cannot():
    """Three free cores at `c` take `x` or `y`, but `x` may run at `a` only."""
    lives = [
        (low("x", cores=3, sites=("a",)), "a", 0.0),
        (low("x2", cores=5, preemptible=False), "a", 0.0),
        (low("y", cores=3), "b", 0.0),
        (low("y2", cores=5, preemptible=False), "b", 0.0),
        (low("z", cores=5, preemptible=False), "c", 0.0),
    ]
    cmo = full(*lives, delay_eur_per_job_h=0.01)
    placed = head_of(cmo, urgent(cores=3, sites=("a", "b")))
    assert (placed.site, named(placed)) == ("b", {"y"})


def test_a_dear_site_is_not_taken_for_a_small_difference_between_victims():
    lives = [(low("x", suspendable=False), "a", NOW - 0.1), (low("y", max_delay=0), "b", 0.0)]
    cmo = full(*lives, names=("a", "b"))
    cmo.fold(series("b", "price_eur_per_mwh", [500.0] * 48, start=0.0))
    assert head_of(cmo).site == "a"


def test_a_job_that_finds_room_names_nobody():
    cmo = full((low("x"), "a", 0.0), (low("y"), "b", 0.0))
    placed = head_of(cmo)
    assert (placed.site, placed.victims) == ("c", ())


def test_where_nobody_may_make_room_it_waits_where_the_load_is_least():
    lives = [(low(job_id, preemptible=False), name, 0.0) for job_id, name in zip("xyz", SITES, strict=True)]
    placed = head_of(full(*lives))
    assert placed.victims == ()
    assert placed.bound_by.endswith("waits in the site's queue")


def test_with_one_site_the_choice_is_left_to_it():
    cmo = full((low("x"), "a", 0.0), names=("a",))
    assert head_of(cmo).victims == ()


def test_what_queues_at_a_site_makes_room_by_itself():
    """`q` should have started long ago and has not: at its site the higher priority goes first anyway."""
    cmo = full((low("x"), "a", 0.0), (low("z"), "c", 0.0))
    job, placed, _ = running(submitted("q", cores=8, runs=50.0), "b", NOW - 1)
    cmo.fold(job)
    cmo.fold(placed)
    cmo.decide(at(NOW))
    head = head_of(cmo)
    assert (head.site, head.victims) == ("b", ())
    assert head.bound_by.endswith("waits in the site's queue")


# ------------------------------------------------------------------------------------------------------------- on nodes


def two_nodes(*lives, names=("a", "b")):
    """The same with two nodes of eight cores at each site; the CMO does not know who runs on which."""
    events = [event for job, name, hours in lives for event in running(job, name, hours)]
    known = [event for name in names for event in flat(name) if event.TOPIC != "sites"]
    cmo = core(*(site(name, node("1"), node("2")) for name in names), *known, *events)
    assert placements(cmo.decide(at(NOW))) == []
    return cmo


FIXED = {"preemptible": False, "priority": 9}


def test_one_in_whose_place_the_job_surely_fits_is_preferred_to_small_ones_that_may_be_on_different_nodes():
    lives = [
        *((low(f"x{number}", cores=4), "a", 0.0) for number in range(2)),
        (low("fixed-a", **FIXED), "a", 0.0),
        (low("y", suspendable=False), "b", NOW - 1),
        (low("fixed-b", **FIXED), "b", 0.0),
    ]
    placed = head_of(two_nodes(*lives))
    assert (placed.site, named(placed)) == ("b", {"y"})


def test_the_small_ones_are_named_too_for_they_cost_less_if_they_are_on_one_node():
    lives = [
        *((low(f"x{number}", cores=4), "a", 0.0) for number in range(2)),
        (low("y", suspendable=False), "a", NOW - 1),
        *((low(f"fixed-{number}", **FIXED), "b", 0.0) for number in range(2)),
    ]
    placed = head_of(two_nodes(*lives))
    assert (placed.site, named(placed)) == ("a", {"x0", "x1", "y"})


def test_where_only_small_ones_may_make_room_they_are_named():
    lives = [
        *((low(f"x{number}", cores=4), "a", 0.0) for number in range(2)),
        (low("fixed-a", **FIXED), "a", 0.0),
        *((low(f"fixed-{number}", **FIXED), "b", 0.0) for number in range(2)),
    ]
    assert named(head_of(two_nodes(*lives))) == {"x0", "x1"}


@pytest.mark.parametrize(
    ("victim", "job", "pods"),
    [
        ({"cores": 8}, {"cores": 3}, 2),
        ({"cores": 8, "pods": 3}, {"cores": 8}, 3),
        ({"cores": 8, "memory_gib": 4}, {"cores": 1, "memory_gib": 3}, 1),
        ({"cores": 2, "pods": 9}, {"cores": 3}, 0),
        ({"cores": 2, "gpus": 4, "models": ("V100",)}, {"gpus": 2, "models": ("V100", "T4")}, 2),
        ({"cores": 2, "gpus": 4}, {"gpus": 2, "models": ("V100",)}, 0),
        ({"cores": 2, "gpus": 4}, {"gpus": 2}, 2),
        ({"gpus": 1, "share": 500}, {"gpus": 1, "share": 500}, 0),
    ],
    ids=[
        "several in one",
        "one in each of a gang's",
        "by the scarcest",
        "never across nodes",
        "models that are allowed",
        "unknown models are not counted on",
        "any model will do",
        "shared devices are not counted on",
    ],
)
def test_how_many_pods_fit_in_the_place_of_a_victim(victim, job, pods):
    assert pods_in_place_of(submitted("v", **victim).spec, submitted("j", **job).spec) == pods


# ------------------------------------------------------------------------------------------------- what becomes of them


def stopped(job_id, name, hours, *, progress_h):
    ended = report(running(submitted(job_id), name)[1], "stopped", hours, reason=WorkloadReason.RELEASED)
    return type(ended)(
        **{
            **{field: getattr(ended, field) for field in ended.__struct_fields__},
            "progress_s": progress_h * 3600,
            "started_at": at(0.0),
        }
    )


def test_a_victim_goes_on_with_its_progress_in_the_room_that_was_held_for_it():
    cmo = full((low("x", cores=5), "a", 0.0), (low("y", preemptible=False, cores=3), "b", 0.0), names=("a", "b"))
    placed = head_of(cmo, urgent(cores=6))
    assert (placed.site, named(placed)) == ("a", {"x"})
    # While it still runs nobody else is sent into the room at `b` that is to be its own.
    cmo.fold(submitted("next", hours=NOW, cores=5, runs=1.0, max_delay=0))
    assert only(placements(cmo.decide(at(NOW)))).bound_by.endswith("waits in the site's queue")
    cmo.fold(stopped("x", "a", NOW + 0.01, progress_h=5.0))
    again = only(placements(cmo.decide(at(NOW + 0.01))))
    assert (again.job_id, again.site, again.revision, again.reason) == ("x", "b", 2, PlacementReason.RESUMED)
    assert again.progress_s == 5 * 3600


def test_a_victim_is_placed_nowhere_before_it_is_reported_to_have_stopped():
    cmo = full((low("x"), "a", 0.0), (low("y", priority=1), "b", 0.0), names=("a", "b"))
    head_of(cmo)
    assert cmo.decide(at(NOW + 0.1)) == []


def test_room_that_was_held_for_a_victim_is_free_again_when_the_job_starts_without_its_end():
    cmo = full((low("x", cores=5), "a", 0.0), (low("y", preemptible=False, cores=3), "b", 0.0), names=("a", "b"))
    placed = head_of(cmo, urgent(cores=6))
    cmo.fold(report(placed, "started", NOW + 0.01))
    cmo.fold(submitted("next", hours=NOW, cores=5, runs=1.0, max_delay=0))
    after = only(placements(cmo.decide(at(NOW + 0.02))))
    assert (after.site, after.bound_by) == ("b", "capacity: a has no room from 2023-06-01T05:01+00:00")


def test_work_that_has_not_started_is_taken_back_and_planned_anew():
    cmo = core(*flat("a", "b"))
    plans = [submitted(job_id, cores=8, runs=3.0, sites=(name,)) for job_id, name in (("x", "a"), ("y", "b"))]
    cmo.fold(series("a", "price_eur_per_mwh", [50.0, 50.0, 1.0, 1.0, 1.0] + [50.0] * 60))
    cmo.fold(series("b", "price_eur_per_mwh", [50.0, 50.0, 1.0, 1.0, 1.0] + [50.0] * 60))
    for plan in plans:
        cmo.fold(plan)
    assert {one.start_at for one in placements(cmo.decide(at(0)))} == {at(2)}
    cmo.fold(submitted("urgent", cores=8, runs=4.0, priority=9, max_delay=0))
    decided = cmo.decide(at(0.01))
    placed, taken = only(placements(decided)), only(withdrawals(decided))
    assert (placed.job_id, placed.victims) == ("urgent", ())
    assert (taken.reason, taken.site) == (WithdrawalReason.PREEMPTION, placed.site)
    assert taken.detail == "makes room for a job of priority 9"
    original = only([plan for plan in plans if plan.job_id == taken.job_id])
    cmo.fold(report(taken, "stopped", 0.02, reason=WorkloadReason.RELEASED))
    again = only(placements(cmo.decide(at(0.02))))
    assert (again.job_id, again.revision, again.spec) == (original.job_id, 2, original.spec)
    assert again.start_at >= placed.start_at + timedelta(hours=4)


def test_work_that_was_taken_back_is_not_refused_for_a_deadline_that_passed_meanwhile():
    cmo = core(*flat("a", "b"))
    for name in ("a", "b"):
        cmo.fold(series(name, "price_eur_per_mwh", [50.0, 50.0, 1.0, 1.0, 1.0] + [50.0] * 60))
        cmo.fold(submitted(name * 3, cores=8, runs=3.0, sites=(name,), deadline=6, preemptible=True))
    assert {one.start_at for one in placements(cmo.decide(at(0)))} == {at(2)}
    cmo.fold(submitted("urgent", cores=8, runs=4.0, priority=9, max_delay=0))
    taken = only(withdrawals(cmo.decide(at(0.01))))
    cmo.fold(report(taken, "stopped", 3.5, reason=WorkloadReason.RELEASED))
    assert only(cmo.decide(at(3.5))).revision == 2


def test_planned_work_that_could_not_keep_its_limit_is_left_alone():
    cmo = core(*flat("a", "b"))
    for name in ("a", "b"):
        cmo.fold(series(name, "price_eur_per_mwh", [50.0, 50.0, 1.0, 1.0, 1.0] + [50.0] * 60))
        cmo.fold(submitted(name * 3, cores=8, runs=3.0, sites=(name,), max_delay=3))
    assert {one.start_at for one in placements(cmo.decide(at(0)))} == {at(2)}
    cmo.fold(submitted("urgent", cores=8, runs=4.0, priority=9, max_delay=0))
    assert withdrawals(cmo.decide(at(0.01))) == []


def test_nobody_makes_room_yet_for_a_job_that_a_power_cap_puts_off():
    cmo = full((low("x", cores=5), "a", 0.0), (low("y", preemptible=False, cores=3), "b", 0.0), names=("a", "b"))
    cmo.fold(cap("a", 165.0, NOW - 1, NOW + 3))
    placed = head_of(cmo, urgent(cores=6, preemptible=True))
    assert (placed.site, placed.start_at, placed.victims) == ("a", at(NOW + 3), ())
    cmo.fold(submitted("next", hours=NOW, cores=5, runs=1.0, max_delay=0))
    after = only(placements(cmo.decide(at(NOW))))
    assert after.site == "b"
    assert "queue" not in after.bound_by, "no room is held for anybody"


# --------------------------------------------------------------------------------------------------------- planned once


def test_two_urgent_jobs_have_two_victims():
    cmo = full(*((low(job_id), name, 0.0) for job_id, name in zip("xyz", SITES, strict=True)))
    first = head_of(cmo)
    second = head_of(cmo, urgent("second"))
    assert first.site != second.site
    assert not named(first) & named(second)


@pytest.mark.parametrize("recovered", [False, True])
def test_a_named_victim_counts_as_leaving_also_for_a_recovered_core(recovered):
    lives = [(low("x"), "a", 0.0), (low("y", preemptible=False), "b", 0.0)]
    cmo = full(*lives, names=("a", "b"))
    first = head_of(cmo, urgent(cores=4))
    assert named(first) == {"x"}
    if recovered:
        cmo = core(*flat("a", "b"), urgent(cores=4), first)
        for event in (event for job, name, hours in lives for event in running(job, name, hours)):
            cmo.fold(event)
        assert cmo.decide(at(NOW)) == []
    second = head_of(cmo, urgent("second", cores=4))
    assert (second.site, second.victims) == ("a", ())


def test_a_victim_may_be_named_again_once_the_job_that_it_was_named_for_is_gone():
    cmo = full((low("x"), "a", 0.0), (low("y", preemptible=False), "b", 0.0), names=("a", "b"))
    job = urgent()
    first = head_of(cmo, job)
    cmo.fold(cancelled(job, NOW))
    assert only(withdrawals(cmo.decide(at(NOW)))).reason is WithdrawalReason.CANCELLED
    cmo.fold(report(first, "stopped", NOW, reason=WorkloadReason.RELEASED))
    cmo.decide(at(NOW))
    assert named(head_of(cmo, urgent("second"))) == {"x"}


def test_whoever_has_ended_is_not_named_by_a_decision_of_the_same_moment():
    cmo = full((low("x"), "a", 0.0), (low("y", preemptible=False), "b", 0.0), names=("a", "b"))
    first = head_of(cmo)
    assert named(first) == {"x"}
    cmo.fold(report(running(low("x"), "a")[1], "succeeded", NOW, reason=WorkloadReason.COMPLETED))
    cmo.fold(report(first, "started", NOW))
    cmo.decide(at(NOW))
    assert head_of(cmo, urgent("second")).victims == ()


def test_a_job_for_which_the_named_are_not_stopped_in_time_is_planned_again_at_the_other_sites():
    """A quota of the site may protect them, which only its DRM knows."""
    cmo = full((low("x"), "a", 0.0), (low("y", priority=1), "b", 0.0), names=("a", "b"), stuck_s=3600.0)
    first = head_of(cmo)
    assert (first.site, named(first)) == ("a", {"x"})
    assert cmo.decide(at(NOW + 0.9)) == []
    taken = only(withdrawals(cmo.decide(at(NOW + 1))))
    assert (taken.job_id, taken.reason) == ("urgent", WithdrawalReason.STUCK)
    cmo.fold(report(taken, "stopped", NOW + 1, reason=WorkloadReason.RELEASED))
    second = only(placements(cmo.decide(at(NOW + 1))))
    assert (second.site, named(second)) == ("b", {"y"})
    assert cmo.decide(at(NOW + 9)) == [], "it does not go to and fro"


def test_it_stays_in_the_queue_where_no_other_site_could_make_room():
    lives = [(low("x"), "a", 0.0), (low("y", preemptible=False), "b", 0.0)]
    cmo = full(*lives, names=("a", "b"), stuck_s=3600.0)
    assert head_of(cmo).site == "a"
    assert cmo.decide(at(NOW + 9)) == []
