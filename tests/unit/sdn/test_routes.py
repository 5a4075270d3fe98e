import pytest

from services.sdn.model import LOCAL_HEADROOM_BPS, Policy
from solyx.events import RouteReason

GBPS = 1e9


def test_a_pair_gets_its_shortest_path_and_a_backup_that_shares_no_link(diamond):
    route = diamond.route("a", "z")
    assert (route.revision, route.reason) == (1, RouteReason.FIRST)
    assert (route.path, route.backup) == (("a", "b", "z"), ("a", "c", "z"))
    assert route.latency_ms == 20
    assert route.headroom_bps == 10 * GBPS
    assert diamond.route("z", "a").path == ("z", "b", "a")
    assert len(diamond.decided) == 2


def test_nothing_new_is_decided_when_nothing_happens(diamond):
    assert [diamond.wait(700) for _ in range(5)] == [[]] * 5


def test_before_anything_is_known_of_the_network_nothing_is_decided(network):
    network.site("a", "z")
    assert network.wait(1000) == []


def test_a_disconnected_pair_is_said_to_be_so_once(network):
    network.link("a", "b")
    network.site("a", "z")
    assert [(route.path, route.reason) for route in network.wait()] == [((), RouteReason.NO_PATH)] * 2
    assert network.wait(1000) == []
    network.link("b", "z")
    (route,) = [route for route in network.wait() if route.source == "a"]
    assert (route.path, route.reason, route.revision) == (("a", "b", "z"), RouteReason.FIRST, 2)


def test_a_first_route_waits_until_the_topology_has_settled(make_network):
    network = make_network(Policy(settle_s=5.0))
    network.link("a", "c", latency_ms=50)
    network.link("c", "z", latency_ms=50)
    network.site("a", "z")
    assert network.wait() == []
    network.link("a", "z", latency_ms=10)
    assert network.wait(4) == []
    assert network.wait(4) == []
    assert {route.path for route in network.wait(1)} == {("a", "z"), ("z", "a")}


def test_a_link_that_goes_down_moves_its_routes_at_once(diamond):
    diamond.wait(1)
    diamond.link("a", "b", up=False, both=False)
    (route,) = diamond.wait()
    assert (route.source, route.target, route.revision, route.reason) == ("a", "z", 2, RouteReason.LINK_DOWN)
    assert (route.path, route.backup) == (("a", "c", "z"), ())


def test_a_backup_that_breaks_is_replaced_at_once_and_the_path_stays(diamond):
    diamond.link("a", "d", latency_ms=40)
    diamond.link("d", "z", latency_ms=40)
    diamond.wait(700)
    diamond.link("c", "z", up=False, both=False)
    (route,) = diamond.wait()
    assert (route.reason, route.path, route.backup) == (RouteReason.LINK_DOWN, ("a", "b", "z"), ("a", "d", "z"))


def test_a_path_without_backup_gets_one_when_there_is_one(diamond):
    diamond.wait(1)
    diamond.link("c", "z", up=False)
    diamond.wait()
    assert diamond.route("a", "z").backup == ()
    diamond.wait(1)
    diamond.link("c", "z", latency_ms=15)
    assert diamond.wait(61) == []  # usable again, but the route has not stood long enough
    assert {route.reason for route in diamond.wait(600)} == {RouteReason.BETTER_PATH}
    assert diamond.route("a", "z").backup == ("a", "c", "z")


def test_a_path_that_lost_its_backup_is_left_later_for_one_that_can_be_protected(network):
    """A repair keeps the path; the pair of disjoint paths that exists beside it is found when the route may change again."""
    for a, b, latency_ms in (("a", "b", 1), ("b", "c", 1), ("c", "z", 1), ("a", "c", 5), ("b", "z", 5), ("a", "z", 20)):
        network.link(a, b, latency_ms=latency_ms)
    network.site("a", "z")
    network.wait()
    assert (network.route("a", "z").path, network.route("a", "z").backup) == (("a", "b", "c", "z"), ("a", "z"))
    network.wait(1)
    network.link("a", "z", up=False)
    network.wait()
    assert (network.route("a", "z").path, network.route("a", "z").backup) == (("a", "b", "c", "z"), ())
    network.wait(600)
    assert {network.route("a", "z").path, network.route("a", "z").backup} == {("a", "b", "z"), ("a", "c", "z")}


def test_a_link_that_comes_up_again_is_used_only_after_a_while(diamond):
    diamond.wait(1)
    diamond.link("a", "b", up=False)
    diamond.link("a", "c", up=False)
    assert {route.reason for route in diamond.wait()} == {RouteReason.NO_PATH}
    diamond.wait(5)
    diamond.link("a", "b", up=True)
    assert diamond.wait(59) == []
    assert {route.path for route in diamond.wait(1)} == {("a", "b", "z"), ("z", "b", "a")}


def test_a_congested_path_is_left_for_one_that_is_not(diamond):
    diamond.wait(600)
    diamond.link("b", "z", load=0.9, both=False)
    (route,) = diamond.wait()
    assert (route.reason, route.path, route.revision) == (RouteReason.CONGESTED, ("a", "c", "z"), 2)
    assert diamond.route("z", "a").revision == 1


def test_a_congested_path_is_kept_when_every_other_is_congested_too(diamond):
    diamond.link("a", "b", load=0.9)
    diamond.link("a", "c", load=0.9)
    assert diamond.wait(600) == []


def test_a_path_above_the_bound_is_the_first_one_where_there_is_no_other(network):
    network.link("a", "z", load=0.97)
    network.site("a", "z")
    assert {route.path for route in network.wait()} == {("a", "z"), ("z", "a")}
    assert network.route("a", "z").headroom_bps == pytest.approx(0.3 * GBPS)


def test_a_better_path_is_taken_only_beyond_the_hysteresis(diamond):
    diamond.wait(600)
    diamond.link("a", "c", latency_ms=5)
    diamond.link("c", "z", latency_ms=12)  # 17 ms against 20: less than a fifth
    assert diamond.wait() == []
    diamond.wait(1)
    diamond.link("c", "z", latency_ms=10)  # 15 ms
    assert {route.reason for route in diamond.wait()} == {RouteReason.BETTER_PATH}
    assert diamond.route("a", "z").path == ("a", "c", "z")


def test_a_route_is_changed_by_choice_only_after_it_stood_for_a_while(diamond):
    diamond.wait(1)
    diamond.link("b", "z", load=0.95)
    assert diamond.wait(598) == []
    assert {route.reason for route in diamond.wait(1)} == {RouteReason.CONGESTED}


def test_counters_alone_wait_for_the_evaluation_interval(make_network):
    network = make_network(Policy(settle_s=0, smoothing_s=0, evaluation_interval_s=100, dwell_s=0))
    for a, b, latency_ms in (("a", "b", 10), ("b", "z", 10), ("a", "c", 15), ("c", "z", 15)):
        network.link(a, b, latency_ms=latency_ms)
    network.site("a", "z")
    assert len(network.wait()) == 2
    network.wait(1)
    network.link("b", "z", load=0.3)
    assert network.wait() == []  # evaluated, and not worth a change
    network.wait(1)
    network.link("b", "z", load=0.95)
    assert network.wait(98) == []
    assert len(network.wait(1)) == 2


def test_a_counter_that_jumps_once_is_smoothed_away(make_network):
    network = make_network(Policy(settle_s=0, smoothing_s=300, dwell_s=0, evaluation_interval_s=0))
    for a, b, latency_ms in (("a", "b", 10), ("b", "z", 10), ("a", "c", 15), ("c", "z", 15)):
        network.link(a, b, latency_ms=latency_ms)
    network.site("a", "z")
    network.wait()
    network.wait(5)
    network.link("b", "z", load=1.0)
    assert network.wait(1) == []


def test_an_observation_older_than_the_last_changes_nothing(diamond):
    old = [event for event in diamond.log if getattr(event, "link", "") == "a>b"]
    diamond.wait(10)
    diamond.link("a", "b", up=False)
    diamond.wait()
    diamond.tell(*old)
    assert diamond.wait(1000) == []


def test_two_sites_at_one_node_need_no_link(network):
    network.link("hub", "x")
    network.site("a", "z", at="hub")
    network.wait()
    route = network.route("a", "z")
    assert (route.path, route.backup, route.latency_ms, route.headroom_bps) == (("hub",), (), 0, LOCAL_HEADROOM_BPS)
    assert network.wait(1000) == []


def test_a_site_that_moves_gets_routes_from_its_new_node(diamond):
    diamond.wait(5)
    diamond.site("z", at="c")
    diamond.wait()
    assert (diamond.route("a", "z").path, diamond.route("a", "z").reason) == (("a", "c"), RouteReason.FIRST)


def test_the_shortest_path_gives_way_to_a_pair_of_disjoint_ones_where_it_blocks_them(network):
    """The trap topology: a-b-c-z is shortest, and nothing disjoint is left beside it."""
    for a, b, latency_ms in (("a", "b", 1), ("b", "c", 1), ("c", "z", 1), ("a", "c", 5), ("b", "z", 5)):
        network.link(a, b, latency_ms=latency_ms)
    network.site("a", "z")
    network.wait()
    route = network.route("a", "z")
    assert {route.path, route.backup} == {("a", "c", "z"), ("a", "b", "z")}


def test_a_route_that_the_network_refused_is_asked_for_again(diamond):
    refused = diamond.route("a", "z")
    diamond.report(refused, "failed")
    assert diamond.wait(599) == []
    (again,) = diamond.wait(1)
    assert (again.path, again.revision, again.reason) == (refused.path, 2, RouteReason.FIRST)
    diamond.wait(1)
    diamond.report(again, "failed")
    diamond.wait(1)
    diamond.report(again, "applied")
    assert diamond.wait(1000) == []


def test_a_large_movement_takes_the_path_with_room_for_it(diamond):
    diamond.wait(600)
    diamond.link("a", "b", load=0.5, latency_ms=8)
    diamond.place("job", "z", data_at="a", gib=140)  # 4 Gbit/s for 300 s on top of 5 of 10
    (route,) = diamond.wait()
    assert (route.source, route.path, route.reason) == ("a", ("a", "c", "z"), RouteReason.CONGESTED)


def test_a_movement_keeps_others_away_from_its_path(make_network):
    network = make_network(Policy(settle_s=0, smoothing_s=0, dwell_s=0, evaluation_interval_s=0))
    for a, b, latency_ms in (("a", "b", 10), ("b", "z", 10), ("a", "c", 15), ("c", "z", 15), ("y", "a", 1)):
        network.link(a, b, latency_ms=latency_ms)
    network.site("a", "y", "z")
    network.wait()
    assert network.route("y", "z").path == ("y", "a", "b", "z")
    network.place("job", "z", data_at="a", gib=245)  # 7 Gbit/s: the pair itself stays, others see 70 % used
    network.wait(1)
    assert network.route("a", "z").path == ("a", "b", "z")
    assert network.route("y", "z").path == ("y", "a", "c", "z")
    network.wait(300)
    assert network.route("y", "z").path == ("y", "a", "b", "z")  # it has arrived


@pytest.mark.parametrize("ending", ["withdraw", "finish", "placed_at_its_data", "starts_late"])
def test_a_movement_that_does_not_happen_or_has_time_reserves_nothing(diamond, ending):
    diamond.wait(600)
    diamond.link("a", "b", load=0.5, latency_ms=8)
    if ending == "starts_late":
        diamond.place("job", "z", data_at="a", gib=140, start_in_s=6 * 3600)
    else:
        diamond.place("job", "z", data_at="a", gib=140)
    if ending == "withdraw":
        diamond.withdraw("job", "z")
    elif ending == "finish":
        diamond.finish("job", "z")
    elif ending == "placed_at_its_data":
        diamond.place("job", "a", data_at="a", gib=140, revision=2)
    assert diamond.wait() == []


def test_what_comes_of_a_job_counts_in_any_order(diamond):
    diamond.wait(600)
    diamond.link("a", "b", load=0.5, latency_ms=8)
    diamond.withdraw("job", "z", revision=2)
    diamond.place("job", "z", data_at="a", gib=140, revision=1)
    diamond.place("job", "z", data_at="a", gib=140, revision=2)
    assert diamond.wait() == []
    diamond.place("job", "z", data_at="a", gib=140, revision=3)
    assert len(diamond.wait(1)) == 1


def test_a_replica_that_takes_over_decides_nothing_again(diamond, make_network):
    diamond.wait(600)
    diamond.link("b", "z", load=0.9)
    diamond.wait(1)
    diamond.link("a", "d", up=False)
    diamond.wait(1)
    standby = make_network(Policy(settle_s=0.0, smoothing_s=0.0, evaluation_interval_s=1.0))
    standby.now = diamond.now
    standby.tell(*reversed([event for event in diamond.log if event.TOPIC == "routes"]))
    standby.tell(*[event for event in diamond.log if event.TOPIC != "routes"])
    assert standby.wait() == []
    diamond.wait(600)
    diamond.link("c", "z", up=False)
    standby.now = diamond.now
    standby.tell(*diamond.log[-2:])
    assert standby.wait() == diamond.wait()


# --- what links have free ---------------------------------------------------------------------------------------------


def test_a_route_tells_what_each_link_of_its_path_has_free(network):
    network.link("a", "b", gbps=10, load=0.2)
    network.link("b", "z", gbps=40, load=0.5)
    network.site("a", "z")
    network.wait()
    assert network.route("a", "z").free_bps == pytest.approx((8 * GBPS, 20 * GBPS))
    assert network.route("z", "a").free_bps == pytest.approx((20 * GBPS, 8 * GBPS))


def test_sites_at_one_node_and_pairs_without_a_path_tell_of_no_link(network):
    network.link("hub", "x")
    network.site("a", "z", at="hub")
    network.site("far")
    network.wait()
    assert network.route("a", "z").free_bps == ()
    assert network.route("a", "far").free_bps == ()


def told_while_moving(network, *, load, moves_s, **placement):
    """What the link between `b` and `z` has free, told for another pair while a job's data moves from `a`; Gbit/s."""
    network.link("a", "b", gbps=40)
    network.link("c", "b", gbps=40)
    network.link("b", "z", gbps=10)
    network.site("a", "z")
    network.wait()
    network.wait(1)
    network.place("job", "z", gib=140, start_in_s=600, moves_s=moves_s, **placement)  # 1202.6 Gbit
    network.link("b", "z", gbps=10, load=load)
    network.wait(100)
    network.site("c")
    network.wait(100)
    return network.route("c", "z").free_bps[1] / GBPS


@pytest.mark.parametrize(
    ("load", "moves_s", "free"),
    [
        (0.7, (0, 300), 7.0),  # 4 of the 7 that the counters show are data that will have arrived
        (0.2, (0, 300), 10.0),  # the counters show less than was promised: nothing else is there
        (0.7, None, 3.0),  # nobody said when it moves
        (0.7, (300, 600), 3.0),  # it does not move yet
        (0.7, (0, 150), 3.0),  # it has arrived
    ],
)
def test_data_under_way_does_not_count_as_traffic_that_stays(network, load, moves_s, free):
    assert told_while_moving(network, load=load, moves_s=moves_s, data_at="a") == pytest.approx(free, abs=0.02)


def test_all_data_under_way_on_a_link_is_taken_together(network):
    network.link("b", "z")
    network.site("b", "z")
    network.wait()
    for job in ("i", "j"):
        network.place(job, "z", gib=140, data_at="a", start_in_s=600, moves_s=(0, 600))  # 2 Gbit/s each
    network.wait(1)
    network.link("b", "z", load=0.7)
    network.link("a", "b", gbps=40)
    network.site("a")
    network.wait(1)
    network.wait(1)
    network.site("c", at="b")
    network.wait(1)
    assert network.route("c", "z").free_bps == pytest.approx((7 * GBPS,), rel=0.01)


def test_the_reserve_for_movements_narrows_the_headroom_and_not_what_is_free(network):
    told_while_moving(network, load=0.0, moves_s=(300, 600), data_at="a")
    route = network.route("c", "z")
    assert (route.headroom_bps, route.free_bps[1]) == (pytest.approx(8 * GBPS, rel=0.01), 10 * GBPS)


def test_the_data_of_a_job_that_ran_moves_from_where_it_ran(network):
    assert told_while_moving(network, load=0.7, moves_s=(0, 300), data_at="z", ran_at="a") == pytest.approx(7, abs=0.02)
    network.place("other", "z", gib=140, data_at="a", ran_at="z")  # it lies there already
    network.site("d", at="c")
    network.wait()
    assert network.route("d", "z").headroom_bps == pytest.approx(1 * GBPS, rel=0.01)
