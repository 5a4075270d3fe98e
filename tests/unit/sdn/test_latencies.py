"""How far places are from sites, as the network measures it."""

from datetime import timedelta

import pytest

from services.sdn.core import SdnCore
from services.sdn.model import Policy
from services.sdn.settings import SdnSettings
from tests.unit.sdn.conftest import POLICY, START

LEISURE = Policy(settle_s=0.0, smoothing_s=0.0, evaluation_interval_s=60.0, latency_fresh_s=5400.0)


def test_a_round_trip_goes_along_the_route_there_and_the_route_back(network):
    network.link("a", "b", latency_ms=10)
    network.link("b", "z", latency_ms=4, both=False)
    network.link("z", "b", latency_ms=7, both=False)
    network.site("a", "z")
    network.wait()
    assert network.round_trips("a") == {"z": 31.0}
    assert network.round_trips("z") == {"a": 31.0}


def test_the_standing_route_counts_and_not_the_best_one(diamond):
    diamond.now += timedelta(seconds=1)
    diamond.link("a", "b", latency_ms=22)
    diamond.wait(1)
    assert diamond.route("a", "z").path == ("a", "b", "z")
    assert diamond.round_trips("a") == {"z": 64.0}


def test_a_named_place_that_is_a_network_node_is_measured_along_the_least_paths(diamond):
    diamond.now += timedelta(seconds=1)
    diamond.site("a", declares={"c": 99, "office": 5})
    diamond.wait(1)
    assert diamond.round_trips("a") == {"c": 30.0, "z": 40.0}
    assert diamond.round_trips("z") == {"a": 40.0, "c": 30.0}


def test_ripples_are_no_news(diamond):
    told = len(diamond.measured)
    for latency_ms in (10.4, 9.7, 11.4, 10):
        diamond.now += timedelta(seconds=10)
        diamond.link("a", "b", latency_ms=latency_ms)
        diamond.wait(1)
    assert len(diamond.measured) == told
    diamond.now += timedelta(seconds=10)
    diamond.link("a", "b", latency_ms=14)
    diamond.wait(1)
    assert diamond.round_trips("a") == {"z": 48.0}


def test_what_was_told_is_told_again_before_it_is_too_old(make_network):
    network = make_network(LEISURE)
    network.link("a", "z", latency_ms=10)
    network.site("a", "z")
    network.wait()
    network.now += timedelta(seconds=2699)
    network.link("a", "z", latency_ms=10.2)
    network.wait()
    assert len(network.measured) == 2
    network.wait(1)
    network.wait(60)
    last = network.measured[-1]
    assert last.measured_at < network.measured[0].valid_until < last.valid_until
    assert network.round_trips("a") == {"z": 20.4}


def test_a_way_over_a_link_that_is_not_observed_any_more_is_not_measured(make_network):
    network = make_network(LEISURE)
    network.link("a", "z", latency_ms=10)
    network.site("a", "z")
    network.wait()
    network.now += timedelta(seconds=5401)
    network.link("z", "x")
    network.wait()
    assert network.round_trips("a") == {}
    assert network.measured[-1].places == {}


def test_nothing_is_called_cut_off_by_what_was_observed_long_ago(make_network):
    network = make_network(LEISURE)
    network.link("a", "z", up=False)
    network.site("a", "z")
    network.wait()
    assert network.round_trips("a") == {"z": None}
    network.wait(5401)
    assert network.round_trips("a") == {}


def test_a_place_that_is_cut_off_is_said_to_be_so(network):
    network.link("a", "z")
    network.link("a", "b")
    network.site("a", "z")
    network.wait()
    network.now += timedelta(seconds=1)
    network.link("a", "z", up=False)
    network.wait()
    assert network.round_trips("a") == {"z": None}
    assert network.measured[-1].places["a"].since == network.now


def test_a_rise_begins_anew_and_a_fall_keeps_the_time(network):
    network.link("a", "z", latency_ms=10)
    network.site("a", "z")
    network.wait()
    since = []
    for latency_ms in (20, 40, 30, 35):
        network.now += timedelta(seconds=600)
        network.link("a", "z", latency_ms=latency_ms)
        network.wait()
        since.append((network.measured[-1].places["a"].since - START).total_seconds())
    assert since == [600, 1200, 1200, 2400]


def test_between_evaluations_nothing_is_told_unless_a_route_changed(make_network):
    network = make_network(LEISURE)
    network.link("a", "z", latency_ms=10)
    network.site("a", "z")
    network.wait()
    network.now += timedelta(seconds=30)
    network.link("a", "z", latency_ms=50)
    network.wait()
    assert network.round_trips("a") == {"z": 20.0}
    network.wait(30)
    assert network.round_trips("a") == {"z": 100.0}


def test_two_sites_at_one_node_are_no_way_apart(network):
    network.link("x", "y")
    network.site("a", "z", at="x")
    network.wait()
    assert network.round_trips("a") == {"z": 0.0}


def test_a_site_that_no_link_touches_is_not_measured_to_named_places(diamond):
    diamond.now += timedelta(seconds=1)
    diamond.site("lonely", declares={"c": 5})
    diamond.wait(1)
    assert "c" not in diamond.round_trips("lonely")


def test_a_recovered_core_goes_on_with_what_was_told(network):
    network.link("a", "z", latency_ms=10)
    network.site("a", "z")
    network.wait()
    network.now += timedelta(seconds=600)
    network.link("a", "z", latency_ms=30)
    network.wait()
    recovered = SdnCore(POLICY)
    for event in reversed(network.log):
        if event.TOPIC != "links":
            recovered.fold(event)
    for event in network.log:
        if event.TOPIC == "links":
            recovered.fold(event)
    assert recovered.decide(network.now) == []


@pytest.mark.parametrize(("speed", "fresh_s"), [(1, 5400), (3600, 108000)])
def test_in_a_fast_replay_a_measurement_lives_half_a_minute_of_the_world(speed, fresh_s):
    assert SdnSettings().policy(speed=speed).latency_fresh_s == fresh_s
