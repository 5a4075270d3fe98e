"""Movements share the links of their paths: each takes one rate from when it begins until it is over."""

import msgspec
import pytest

from services.cmo.core.jobs import Job
from services.cmo.core.wan import LEAST_BPS, LONGEST_S, Wan
from solyx.events import DataSet
from tests.unit.cmo.cmo_builders import (
    GIB,
    T0,
    at,
    cancelled,
    core,
    flat,
    only,
    placements,
    route,
    submitted,
)
from tests.unit.cmo.test_wan import later

NOW_S = T0.timestamp()
H = 3600.0


def star(*, trunk=60, **branches):
    """Sites around a node: from each branch to `z`, by GiB/h of the branch, over one trunk."""
    return [route(name, "z", width, trunk, via=("x",)) for name, width in branches.items()]


def to_z(name, source, gib, **options):
    return submitted(name, data=(gib, source), runs=3, sites=("z",), **options)


def moves(*events, hours=0.0, cmo=None):
    """From when until when each placement moves its data, in hours."""
    cmo = cmo or core(*flat("a", "b", "c", "z"))
    for event in events:
        cmo.fold(event)
    return {
        made.job_id: tuple(round((each - T0).total_seconds() / H, 3) for each in (made.data_from, made.data_at))
        for made in placements(cmo.decide(at(hours)))
    }


# Sharing ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trunk", "second"),
    [
        (60, (0.167, 0.333)),  # nothing is left until the first has arrived
        (70, (0.167, 0.333)),  # at the rate that is left it would be there later than after the first
        (100, (0.0, 0.25)),  # what is left is faster than waiting
        (120, (0.0, 0.167)),  # there is enough for both
    ],
)
def test_movements_of_two_pairs_share_the_link_that_both_paths_lead_over(trunk, second):
    assert moves(*star(trunk=trunk, a=60, b=60), to_z("i", "a", 10), to_z("j", "b", 10)) == {
        "i": (0.0, 0.167),
        "j": second,
    }


def test_a_link_is_shared_in_one_direction_only():
    there, back = route("a", "z", 60, 60, via=("x",)), route("z", "a", 60, 60, via=("x",))
    job = submitted("j", data=(10, "z"), runs=3, sites=("a",))
    assert moves(there, back, to_z("i", "a", 10), job) == {"i": (0.0, 0.167), "j": (0.0, 0.167)}


def test_a_thin_movement_of_a_day_leaves_the_rest_of_the_trunk_to_others():
    routes = star(trunk=60, a=1, b=600)
    made = moves(*routes, to_z("thin", "a", 24), to_z("wide", "b", 10))
    assert made == {"thin": (0.0, 24.0), "wide": (0.0, 0.17)}


def test_a_movement_keeps_its_rate_so_it_begins_where_it_is_there_first():
    """While the first two move there is a little, then a little more, then all."""
    routes = star(trunk=60, a=30, b=24, c=600)
    made = moves(*routes, to_z("i", "a", 30), to_z("j", "b", 12), to_z("k", "c", 15))
    assert made == {"i": (0.0, 1.0), "j": (0.0, 0.5), "k": (0.5, 1.0)}


def test_a_movement_promised_for_later_does_not_lose_its_bandwidth_to_one_that_begins_before():
    routes = star(trunk=60, a=60, b=60)
    made = moves(*routes, to_z("i", "a", 60), to_z("j", "b", 60), to_z("k", "a", 6))
    assert made == {"i": (0.0, 1.0), "j": (1.0, 2.0), "k": (2.0, 2.1)}


def test_what_was_taken_back_in_the_middle_is_used_by_who_fits_in_and_those_behind_keep_theirs():
    cmo = core(*flat("a", "b", "c", "z"))
    jobs = [to_z(name, "a", 30) for name in ("i", "j", "k")]
    assert moves(*star(a=60), *jobs, cmo=cmo) == {"i": (0.0, 0.5), "j": (0.5, 1.0), "k": (1.0, 1.5)}
    small, large = to_z("small", "a", 15, hours=0.1), to_z("large", "a", 60, hours=0.2)
    assert moves(cancelled(jobs[1], 0.1), cmo=cmo, hours=0.1) == {}
    assert moves(small, large, cmo=cmo, hours=0.2) == {"small": (0.5, 0.75), "large": (1.5, 2.5)}


def test_a_movement_under_way_takes_its_rate_along_when_its_pair_is_led_elsewhere():
    """From one node to the other: what it had is free, and where it moves now it is taken."""
    cmo = core(*flat("a", "b", "c", "z"))
    beside = route("c", "z", 60, 60, via=("y",))
    assert moves(*star(a=60, b=60), beside, to_z("i", "a", 60), cmo=cmo) == {"i": (0.0, 1.0)}
    led = route("a", "z", 60, 60, via=("y",), hours=0.5, revision=2)
    through_x, through_y = to_z("j", "b", 6, hours=0.5), to_z("k", "c", 6, hours=0.5)
    made = moves(led, through_x, through_y, cmo=cmo, hours=0.5)
    assert made == {"j": (0.5, 0.6), "k": (1.0, 1.1)}


def test_a_job_that_is_placed_anew_takes_no_more_of_its_earlier_movement():
    wan, jobs = wan_with((to_z("i", "a", 60), 0, 1), routes=star(a=60, b=60))
    again = only(placements(core(*flat("z"), *star(a=60, b=60), to_z("i", "a", 60)).decide(T0)))
    jobs["i"].merge(msgspec.structs.replace(again, revision=2, data_from=at(5), data_at=at(6)))
    wan.watch(jobs["i"], again.spec)
    data = DataSet(size_bytes=6 * GIB, site="b")
    assert wan.movement(data, "z", Job("other"), NOW_S) == (NOW_S, NOW_S + 0.1 * H)
    assert wan.movement(data, "z", Job("other"), NOW_S + 5 * H) == (NOW_S + 6 * H, NOW_S + 6.1 * H)


def test_pairs_whose_links_nobody_told_are_counted_alone():
    routes = [route("a", "z", 60), route("b", "z", 60)]
    assert moves(*routes, to_z("i", "a", 10), to_z("j", "b", 10)) == {"i": (0.0, 0.167), "j": (0.0, 0.167)}


@pytest.mark.parametrize("recovered", [False, True])
def test_a_recovered_core_shares_links_as_the_one_before(recovered):
    log = [*flat("a", "b", "c", "z"), *star(trunk=90, a=60, b=60), to_z("i", "a", 60)]
    cmo = core(*log)
    log += cmo.decide(T0)
    if recovered:
        cmo = core(*log)
    assert moves(to_z("j", "b", 10, hours=0.25), cmo=cmo, hours=0.25) == {"j": (0.25, 0.584)}


def test_who_does_not_say_since_when_its_data_moves_has_the_links_until_it_is_there():
    log = [*flat("a", "b", "c", "z"), *star(trunk=90, a=60, b=60), to_z("i", "a", 60)]
    old = msgspec.structs.replace(only(placements(core(*log).decide(T0))), data_from=None)
    assert moves(to_z("j", "b", 10), cmo=core(*log, old)) == {"j": (1.0, 1.167)}


# What a link has free -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("newer", "gib_per_h"), [("a", 60), ("b", 6)])
def test_the_latest_route_over_a_link_tells_for_all_that_share_it(newer, gib_per_h, swapped):
    """Whichever is read first."""
    routes = [route(name, "z", 60, width, via=("x",), hours=name == newer) for name, width in (("a", 60), ("b", 6))]
    made = moves(*(reversed(routes) if swapped else routes), to_z("i", "a", 6), hours=1)
    assert made == {"i": (1.0, 1.0 + 6 / gib_per_h)}


def test_a_link_is_as_wide_as_the_routes_that_still_lead_over_it_say():
    gone = route("b", "z", 60, 6, via=("x",), hours=1)
    elsewhere = route("b", "z", 60, 60, via=("y",), hours=2, revision=2)
    assert moves(*star(a=60), gone, elsewhere, to_z("i", "a", 6), hours=2) == {"i": (2.0, 2.1)}


def test_jobs_of_a_kind_that_was_looked_at_before_learn_of_a_link_that_another_pair_tells_of():
    cmo = core(*flat("a", "b", "c", "z"))
    assert moves(*star(a=60, b=60), to_z("i", "a", 6), cmo=cmo) == {"i": (0.0, 0.1)}
    narrower = route("b", "z", 60, 6, via=("x",), hours=1, revision=2)
    assert moves(narrower, to_z("j", "a", 6, hours=1), cmo=cmo, hours=1) == {"j": (1.0, 2.0)}
    job = submitted("k", data=(6, "a"), runs=3, sites=("z",), max_delay=0.5, hours=2)
    assert moves(route("a", "z", path=False, hours=2, revision=2), job, cmo=cmo, hours=2) == {}
    assert moves(route("a", "z", 60, 60, via=("y",), hours=2, revision=3), cmo=cmo, hours=2) == {"k": (2.0, 2.1)}


def test_a_link_that_grows_makes_possible_what_would_have_taken_years():
    """Which sites a kind of jobs can go to is remembered, until a link carries more or less."""
    cmo = core(*flat("a", "b", "c", "z"))
    assert moves(*star(trunk=0, a=60, b=60), to_z("i", "a", 6000), cmo=cmo) == {}
    assert moves(route("b", "z", 60, 60, via=("x",), hours=1, revision=2), cmo=cmo, hours=1) == {"i": (1.0, 101.0)}


def test_a_path_that_data_of_jobs_fills_is_free_again_when_that_has_arrived():
    """Its headroom is 0, for the network keeps a reserve; what all but such data leaves is told link by link."""
    told = msgspec.structs.replace(route("b", "z", 60, 60, via=("x",)), headroom_bps=0.0)
    made = moves(*star(a=60), told, to_z("i", "a", 60), to_z("j", "b", 6))
    assert made == {"i": (0.0, 1.0), "j": (1.0, 1.1)}


def test_a_link_that_is_full_of_other_traffic_still_carries_a_little():
    wan = Wan()
    wan.fold(route("a", "z", 60, 0, via=("x",)))
    assert wan.transfer_s(DataSet(size_bytes=1_000_000, site="a"), "z") == pytest.approx(8e6 / LEAST_BPS)


# One movement -------------------------------------------------------------------------------------------------------------


def wan_with(*placed, routes):
    """A network on which these placements move data: job, from when and until when in hours."""
    wan, kept = Wan(), {}
    for each in routes:
        wan.fold(each)
    for job, begin, end in placed:
        made = only(placements(core(*flat("a", "b", "c", "z"), *routes, job).decide(T0)))
        kept[job.job_id] = record = Job(job.job_id)
        record.merge(msgspec.structs.replace(made, data_from=at(begin), data_at=at(end)))
        wan.watch(record, job.spec)
    return wan, kept


def test_a_promise_to_the_job_itself_does_not_stand_in_its_way_on_shared_links():
    wan, jobs = wan_with((to_z("i", "a", 60), 0, 1), routes=[*star(a=60), route("a", "c", 60, 60, via=("x",))])
    data = DataSet(size_bytes=6 * GIB, site="a")
    assert wan.movement(data, "c", jobs["i"], NOW_S) == (NOW_S, NOW_S + 0.1 * H)
    assert wan.movement(data, "c", Job("other"), NOW_S) == (NOW_S + H, NOW_S + 1.1 * H)


def test_arrivals_are_whole_seconds_and_never_early():
    wan, _ = wan_with(routes=star(a=60))
    data = DataSet(size_bytes=GIB // 7, site="a")
    begin_s, until_s = wan.movement(data, "z", Job("j"), NOW_S + 0.25)
    assert begin_s == NOW_S + 0.25
    assert until_s == int(until_s)
    assert 0 <= until_s - begin_s - data.size_bytes / GIB / 60 * H < 1


def test_no_queue_is_looked_at_beyond_a_year():
    wan, _ = wan_with((to_z("i", "a", 480_000), 0, 8000), routes=star(a=60))
    begin_s, until_s = wan.movement(DataSet(size_bytes=60_000 * GIB, site="a"), "z", Job("j"), NOW_S)
    assert begin_s <= until_s == NOW_S + LONGEST_S


def test_who_is_placed_away_from_its_data_says_since_when_it_moves():
    made = only(placements(core(*flat("a", "z"), *star(a=60), to_z("i", "a", 10)).decide(T0)))
    assert (made.data_from, made.data_at, made.start_at) == (T0, later(1 / 6), later(1 / 6))
