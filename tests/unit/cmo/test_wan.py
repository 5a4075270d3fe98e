"""Data takes time on the network: it shifts starts, closes hours and sites, and weighs in moves."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from services.cmo.core.jobs import Job
from services.cmo.core.ledger import Ledger
from services.cmo.core.lengths import Lengths
from services.cmo.core.outlook import Outlook
from services.cmo.core.placing import Placer
from services.cmo.core.sites import Sites
from services.cmo.core.wan import LEAST_BPS, LONGEST_S, Wan
from services.cmo.model import Policy
from solyx.events import (
    DataSet,
    DeferralCause,
    FinishReason,
    JobFinished,
    PlacementReason,
    RouteDecided,
    SiteObserved,
    WithdrawalReason,
    WorkloadReason,
)
from tests.unit.cmo.cmo_builders import (
    GIB,
    T0,
    at,
    cancelled,
    carbon,
    core,
    deferrals,
    flat,
    node,
    only,
    placements,
    prices,
    report,
    route,
    running,
    site,
    submitted,
    withdrawals,
)


def later(hours) -> object:
    return pytest.approx(at(hours), abs=timedelta(seconds=1))


def cheap_b(*, dear=100.0, cheap=10.0):
    """Data lies at `a`, where energy is dear; at `b` it is cheap."""
    return [*flat("a", price=dear), *flat("b", price=cheap)]


def placed(*events, now=0.0, **policy):
    return only(placements(core(*events, **policy).decide(at(now))))


# Placement ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suspendable", [False, True])
def test_a_start_now_waits_until_the_data_is_there(suspendable):
    job = submitted(data=(10, "a"), runs=3, suspendable=suspendable)
    made = placed(*cheap_b(), route("a", "b", 60), job)
    assert (made.site, made.start_at, made.data_at) == ("b", later(1 / 6), later(1 / 6))
    assert made.start_at >= at(1 / 6)
    assert made.bound_by == "WAN: 10 GiB from a reach b at 2023-06-01T00:10+00:00"
    assert made.cost.delay_eur == pytest.approx(1e-7 / 6, rel=1e-2)


@pytest.mark.parametrize("suspendable", [False, True])
def test_a_link_that_takes_hours_closes_the_starts_before_the_arrival(suspendable):
    job = submitted(data=(25, "a"), runs=3, suspendable=suspendable)
    made = placed(*cheap_b(), route("a", "b", 10), job)
    assert (made.site, made.start_at, made.data_at) == ("b", at(3), later(2.5))
    assert "WAN: 25 GiB from a reach b at 2023-06-01T02:30+00:00" in made.bound_by


@pytest.mark.parametrize("suspendable", [False, True])
def test_a_slow_link_makes_it_choose_another_site(suspendable):
    job = submitted(data=(25, "a"), runs=3, max_delay=2, suspendable=suspendable)
    assert placed(*cheap_b(), job).site == "b"
    made = placed(*cheap_b(), route("a", "b", 10), job)
    assert (made.site, made.start_at, made.data_at) == ("a", T0, None)
    assert "WAN: 25 GiB from a reach b at" in made.bound_by


@pytest.mark.parametrize("suspendable", [False, True])
def test_an_arrival_within_the_hour_but_beyond_the_limit_closes_the_start(suspendable):
    job = submitted(data=(30, "a"), runs=3, max_delay=0.25, suspendable=suspendable)
    assert placed(*cheap_b(), route("a", "b", 60), job).site == "a"
    assert placed(*cheap_b(), route("a", "b", 150), job).site == "b"


def test_the_run_is_priced_where_it_lies_after_the_shift():
    b = [site("b"), prices("b", *[10.0] * 24, 10.0, *[500.0] * 100, start=-24), carbon("b")]
    job = submitted(data=(30, "a"), runs=1, max_delay=0.75)
    assert placed(*flat("a"), *b, job).site == "b"
    assert placed(*flat("a"), *b, route("a", "b", 60), job).site == "a"  # half of the hour would be dear


@pytest.mark.parametrize("suspendable", [False, True])
@pytest.mark.parametrize(("share", "chosen"), [(0.1, "b"), (1.5, "a")])
def test_a_shifted_start_bears_its_movement_and_its_delay(suspendable, share, chosen):
    """Of what the other site saves, each by itself: a little, or more than all of it."""
    job = submitted(data=(10, "a"), runs=3, suspendable=suspendable)
    way = route("a", "b", 60)  # ten minutes
    gain_eur = placed(*flat("a", price=100.0), job).cost.energy_eur - placed(*cheap_b(), way, job).cost.energy_eur
    a = [site("a", egress=share * gain_eur / 10), prices("a", *[100.0] * 100, start=-24), carbon("a")]
    assert placed(*a, *flat("b", price=10.0), way, job).site == chosen
    assert placed(*cheap_b(), way, job, delay_eur_per_job_h=6 * share * gain_eur).site == chosen


@pytest.mark.parametrize("suspendable", [False, True])
def test_the_shifted_run_must_find_room(suspendable):
    """From two o'clock on somebody else has all of `b`."""
    blocker = submitted("blocker", cores=8, runs=5)
    _, planned, _ = running(blocker, "b", 2)
    job = submitted(cores=8, runs=1.75, data=(30, "a"), max_delay=0.75, suspendable=suspendable)
    assert placed(*cheap_b(), blocker, planned, route("a", "b", 600), job).site == "b"
    assert placed(*cheap_b(), blocker, planned, route("a", "b", 60), job).site == "a"


def test_where_the_data_lies_and_without_data_nothing_changes():
    routes = [route("a", "b", 1), route("b", "a", 1)]
    for job in (submitted(data=(10, "b")), submitted(), submitted(data=(0, "a"))):
        assert placed(*cheap_b(), job) == placed(*cheap_b(), *routes, job)


def test_a_pair_that_nobody_told_of_has_no_limit():
    job = submitted(data=(10, "a"))
    assert placed(*cheap_b(), job) == placed(*cheap_b(), route("b", "a", 1), job)
    assert placed(*cheap_b(), job).data_at is None


def test_the_latest_revision_of_a_route_counts_in_any_order():
    job = submitted(data=(10, "a"), runs=3)
    old, new = route("a", "b", 1), route("a", "b", 60, revision=2)
    assert placed(*cheap_b(), old, new, job) == placed(*cheap_b(), new, old, job)
    assert placed(*cheap_b(), old, new, job).start_at == later(1 / 6)


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_a_job_that_nothing_reaches_within_its_limit_starts_where_its_data_is_first(first, second):
    """Even where somebody else has all there is: the other site would have been free long before."""
    _, planned, _ = running(submitted("blocker", cores=8, runs=9), first)
    job = submitted(data=(30, "d"), runs=1, max_delay=0)
    routes = [route("d", first, 20), route("d", second, 10)]
    for world in (cheap_b(), [*cheap_b(), planned]):
        made = placed(*world, *routes, job)
        assert (made.site, made.start_at, made.data_at) == (first, later(1.5), later(1.5))
        assert "WAN: its data reaches no feasible site within the maximum delay of 0 h" in made.bound_by


@pytest.mark.parametrize(("reached", "late"), [("a", "b"), ("b", "a")])
def test_a_job_without_room_queues_where_its_data_is_in_time_however_full_it_is_there(reached, late):
    """Both sites are full when the job would start; the one that its data reaches too late has less to do before."""
    full = [running(submitted(f"full-{name}", cores=8, runs=2), name)[1] for name in ("a", "b")]
    more = running(submitted("more", cores=8, runs=2), reached)[1]
    job = submitted(data=(10, "d"), runs=1, max_delay=0.5)
    made = placed(*cheap_b(), *full, more, route("d", reached, 60), route("d", late, 10), job)
    assert made.site == reached
    assert made.data_at == later(1 / 6)
    assert "capacity: no feasible site has room" in made.bound_by
    assert placed(*cheap_b(), *full, more, job).site == late


def test_without_prices_it_does_not_start_before_its_data_either():
    made = placed(site("a"), site("b"), route("a", "b", 60), submitted(data=(10, "a"), home="b"))
    assert (made.site, made.start_at, made.reason) == ("b", later(1 / 6), PlacementReason.NO_FORECAST)
    assert "WAN: 10 GiB from a reach b" in made.bound_by


def test_room_is_held_from_the_arrival_on_where_prices_are_unknown():
    """Whoever takes a placement back holds the hours that are chosen here."""
    planner = placer(site("a"), site("b"), route("a", "b", 60))
    told = submitted(data=(10, "a"), home="b", runs=2)
    choice = planner.choose(Job("j", spec=told.spec, submitted_at=told.submitted_at), told.spec, T0)
    assert choice.reason is PlacementReason.NO_FORECAST
    assert (choice.site, choice.start_at) == ("b", later(1 / 6))
    assert choice.stretches == ((choice.start_at.timestamp(), 7200.0),)


def test_a_second_best_start_is_told_with_its_arrival():
    job = submitted(data=(10, "a"), max_delay=0.3)
    made = placed(*flat("a", price=10), *flat("b", price=11), route("a", "b", 60), job)
    assert (made.site, made.start_at) == ("a", T0)
    assert "WAN" not in made.bound_by
    assert (made.alternative.site, made.alternative.start_at) == ("b", later(1 / 6))


# No path ------------------------------------------------------------------------------------------------------------------


def test_a_site_without_a_path_to_the_data_is_no_candidate():
    made = placed(*cheap_b(), route("a", "b", 0, path=False), submitted(data=(10, "a")))
    assert made.site == "a"
    assert "WAN: no path from a, where its data lies, to b" in made.bound_by


def test_a_job_whose_data_no_path_leads_from_waits_and_goes_on_when_there_is_one():
    job = submitted(data=(10, "d"))
    cmo = core(*cheap_b(), route("d", "a", 0, path=False), route("d", "b", 0, path=False), job)
    waits = only(deferrals(cmo.decide(T0)))
    assert waits.reason is DeferralCause.NO_READY_SITE
    assert "no path from d, where its data lies, to a" in waits.detail
    assert not placements(cmo.decide(at(0.1)))
    cmo.fold(route("d", "b", 60, revision=2, hours=0.2))
    assert only(placements(cmo.decide(at(0.2)))).site == "b"


def test_work_that_makes_room_is_not_looked_for_where_the_data_is_still_to_come():
    low = submitted("low", cores=8, runs=2, sites=("b",), preemptible=True)
    full = submitted("full", cores=8, runs=2, sites=("a",), priority=9)
    cmo = core(*cheap_b(), low, full, route("a", "b", 10))
    for each in placements(cmo.decide(T0)):
        cmo.fold(report(each, "started"))
    cmo.fold(submitted("high", cores=8, runs=1, priority=5, max_delay=0, data=(25, "a"), hours=0.1))
    assert only(placements(cmo.decide(at(0.1)))).victims == ()


def placer(*events):
    """A planner that was told so, and its sites."""
    policy, sites, ledger = Policy(), Sites(), Ledger()
    outlook = Outlook(policy)
    for event in events:
        match event:
            case SiteObserved():
                sites.fold(event)
            case RouteDecided():
                sites.wan.fold(event)
            case _:
                outlook.fold_series(event)
    ledger.set_sites(sites.all, {}, T0.timestamp())
    return Placer(policy, sites, ledger, outlook, Lengths())


def test_who_is_put_off_to_a_site_starts_there_when_the_data_is_there_or_not_there_at_all():
    """Answers to the grid and to prices put choices off, and know nothing of the network."""
    planner = placer(*cheap_b(), *flat("c"), route("a", "b", 60), route("a", "c", 0, path=False))
    told = submitted(data=(10, "a"))
    job = Job("j", spec=told.spec, submitted_at=told.submitted_at)
    planned = planner.choose(job, told.spec, T0)
    assert planned.site == "b"
    early = replace(planned, start_at=T0, stretches=((T0.timestamp(), 3600.0),))
    there = planner.with_data(job, told.spec, early, planned, T0)
    assert (there.start_at, there.data_at) == (later(1 / 6), later(1 / 6))
    assert there.stretches[0][0] == there.start_at.timestamp()
    cut_off = replace(planned, site="c", start_at=at(5))
    assert planner.with_data(job, told.spec, cut_off, planned, T0).site == "b"


# The pipe -----------------------------------------------------------------------------------------------------------------


def test_two_movements_follow_each_other():
    jobs = [submitted(name, data=(10, "a"), runs=3) for name in ("i", "j")]
    made = placements(core(*cheap_b(), route("a", "b", 60), *jobs).decide(T0))
    assert [each.data_at for each in made] == [later(1 / 6), later(2 / 6)]


def test_pairs_do_not_share_a_pipe():
    jobs = [submitted(name, data=(10, source), runs=3, sites=("b",)) for name, source in (("i", "a"), ("j", "c"))]
    made = placements(core(*cheap_b(), *flat("c"), route("a", "b", 60), route("c", "b", 60), *jobs).decide(T0))
    assert [each.data_at for each in made] == [later(1 / 6), later(1 / 6)]


def test_the_pipe_is_free_again_when_the_data_is_there():
    cmo = core(*cheap_b(), route("a", "b", 60), submitted("i", data=(10, "a"), runs=3))
    cmo.decide(T0)
    cmo.fold(submitted("j", data=(10, "a"), runs=3, hours=0.5))
    assert only(placements(cmo.decide(at(0.5)))).data_at == later(0.5 + 1 / 6)


@pytest.mark.parametrize("recovered", [False, True])
def test_who_is_cancelled_gives_the_pipe_back_and_a_recovered_core_knows_the_same(recovered):
    i, j = (submitted(name, data=(10, "a"), runs=3) for name in ("i", "j"))
    log = [*cheap_b(), route("a", "b", 60), i, j]
    cmo = core(*log)
    log += cmo.decide(T0)
    if recovered:
        cmo = core(*log)
    last = cancelled(j, 0.05)
    third = submitted("k", data=(10, "a"), runs=3, hours=0.05)
    cmo.fold(last)
    cmo.fold(third)
    made = only(placements(cmo.decide(at(0.05))))
    assert made.job_id == "k"
    assert made.data_at == later(2 / 6)


@pytest.mark.parametrize("recovered", [False, True])
def test_a_promise_counts_until_it_is_over_however_often_its_job_is_looked_at(recovered):
    """Its own promise does not stand in its way when it is compared; for all others it does."""
    log = [*cheap_b(), route("a", "b", 60), submitted("i", data=(10, "a"), runs=3)]
    cmo = core(*log)
    log += cmo.decide(T0)
    if recovered:
        cmo = core(*log)
        cmo.decide(T0)
    cmo.fold(site("c", hours=0.05))
    assert not cmo.decide(at(0.05))
    cmo.fold(submitted("j", data=(10, "a"), runs=3))
    assert only(placements(cmo.decide(at(0.1)))).data_at == later(2 / 6)


def test_a_recovered_core_queues_behind_movements_that_were_promised():
    log = [*cheap_b(), route("a", "b", 60), submitted("i", data=(10, "a"), runs=3)]
    log += core(*log).decide(T0)
    cmo = core(*log)
    cmo.fold(submitted("j", data=(10, "a"), runs=3))
    assert only(placements(cmo.decide(T0))).data_at == later(2 / 6)


def test_the_pipe_is_given_back_by_who_is_told_to_be_over():
    log = [*cheap_b(), route("a", "b", 60), submitted("i", data=(10, "a"), runs=3)]
    log += core(*log).decide(T0)
    cmo = core(*log)
    cmo.decide(T0)
    cmo.fold(
        JobFinished(job_id="i", tenant="t", outcome="cancelled", reason=FinishReason.CANCELLED, finished_at=at(0.05))
    )
    cmo.fold(submitted("j", data=(10, "a"), runs=3))
    assert only(placements(cmo.decide(at(0.05)))).data_at == later(0.05 + 1 / 6)


def test_who_is_stuck_is_not_sent_where_its_data_would_take_longer_than_it_has_waited():
    job = submitted(data=(30, "b"), runs=1)
    for gib_per_h, moves in ((60, True), (10, False)):
        cmo = core(*cheap_b(), route("b", "a", gib_per_h), job)
        assert only(placements(cmo.decide(T0))).site == "b"
        assert bool(withdrawals(cmo.decide(at(24.1)))) == moves


def test_a_full_path_still_carries_a_little_and_a_movement_of_years_is_none():
    wan = Wan()
    wan.fold(route("a", "b", 0.0))
    assert wan.transfer_s(DataSet(size_bytes=1_000_000, site="a"), "b") == pytest.approx(8e6 / LEAST_BPS)
    assert wan.transfer_s(DataSet(size_bytes=int(LONGEST_S * LEAST_BPS), site="a"), "b") == float("inf")
    assert wan.transfer_s(DataSet(size_bytes=GIB, site="b"), "a") == 0.0
    assert Job("j").data_at is None


# Plans and moves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suspendable", [False, True])
def test_a_plan_whose_data_is_under_way_stays(suspendable):
    """Looked at half an hour before its start, its movement, begun anew, would be too late."""
    job = submitted(data=(25, "a"), runs=3, suspendable=suspendable)
    cmo = core(*cheap_b(), route("a", "b", 10), job)
    cmo.decide(T0)
    for hours in (1.0, 2.6, 2.9):
        for name in ("a", "b"):
            cmo.fold(site(name, node("n"), node("m"), hours=hours))
        assert not withdrawals(cmo.decide(at(hours)))


def moving_world(*routes):
    """A suspendable job runs at `a`; at one o'clock energy at `b` becomes much cheaper for a few hours."""
    b = [site("b"), prices("b", *[50.0] * 120, start=-24), carbon("b")]
    job = submitted(data=(30, "a"), runs=3, suspendable=True, max_delay=1)
    cmo = core(*flat("a"), *b, *routes, job)
    live = only(placements(cmo.decide(T0)))
    assert live.site == "a"
    cmo.fold(report(live, "started"))
    cmo.decide(at(0.5))
    cmo.fold(prices("b", *[1.0] * 2, *[500.0] * 20, start=1))
    return cmo, live


def test_a_migration_that_would_pay_without_the_time_on_the_network_does_not_pay_with_it():
    cmo, _ = moving_world()
    assert only(withdrawals(cmo.decide(at(1)))).reason is WithdrawalReason.MIGRATION
    cmo, _ = moving_world(route("a", "b", 10))
    assert not withdrawals(cmo.decide(at(1)))


def test_a_migration_over_a_fast_link_begins_when_the_data_is_there():
    cmo, live = moving_world(route("a", "b", 600))
    assert only(withdrawals(cmo.decide(at(1)))).reason is WithdrawalReason.MIGRATION
    stopped = report(live, "stopped", 1, reason=WorkloadReason.RELEASED)
    cmo.fold(msgspec.structs.replace(stopped, started_at=T0, progress_s=3600.0))
    made = only(placements(cmo.decide(at(1))))
    assert (made.site, made.start_at, made.data_at) == ("b", later(1.05), later(1.05))


def test_a_withdrawal_says_when_the_data_would_have_been_there():
    job = submitted(data=(10, "a"), runs=3)
    cmo = core(*cheap_b(), route("a", "b", 60), job)
    made = only(placements(cmo.decide(T0)))
    cmo.fold(cancelled(job))
    assert [one.data_at for one in withdrawals(cmo.decide(at(0.01)))] == [made.data_at]
    assert made.data_at is not None
