"""What holds of the SDN's paths and routes whatever the network does."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sdn.core import SdnCore
from services.sdn.core.links import Ends
from services.sdn.core.paths import Graph, disjoint_pair, least_path, protected_path
from services.sdn.model import Policy
from solyx.events import (
    CostBreakdown,
    DataSet,
    JobPlaced,
    JobSpec,
    LinkObserved,
    PlacementReason,
    Resources,
    RouteDecided,
    RouteReason,
    SiteLatenciesMeasured,
    SiteObserved,
)

START = datetime(2025, 6, 2, tzinfo=UTC)
NODES = "abcdef"
QUICK = settings(max_examples=60, deadline=None)

# ---- paths ----------------------------------------------------------------------------------------------------------

hops = st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)).filter(lambda hop: hop[0] != hop[1])
networks = st.dictionaries(hops, st.integers(1, 12), max_size=16)


def graph_of(network):
    ends = {f"{source}>{target}": Ends(source=source, target=target) for source, target in network}
    return Graph(ends), {f"{source}>{target}": float(weight) for (source, target), weight in network.items()}


def digraph_of(network):
    digraph = nx.DiGraph()
    digraph.add_nodes_from(NODES)
    digraph.add_weighted_edges_from((source, target, weight) for (source, target), weight in network.items())
    return digraph


def hops_of(links):
    return [tuple(name.split(">")) for name in links]


def assert_path(links, network, weight, source="a", target="f"):
    nodes = [source, *(hop[1] for hop in hops_of(links))]
    assert list(pairwise(nodes)) == hops_of(links)
    assert nodes[-1] == target
    assert len(set(nodes)) == len(nodes)
    assert sum(network[hop] for hop in hops_of(links)) == weight


def cables(links):
    return {frozenset(hop) for hop in hops_of(links)}


def pair_weights(network):
    """Total weights of all pairs of simple paths from a to f that share no directed link."""
    digraph = digraph_of(network)
    paths = [frozenset(pairwise(path)) for path in nx.all_simple_paths(digraph, "a", "f")]
    weight = {path: sum(network[hop] for hop in path) for path in paths}
    return [weight[one] + weight[other] for one in paths for other in paths if not one & other]


@QUICK
@given(networks)
def test_the_least_path_weighs_what_networkx_finds(network):
    graph, weights = graph_of(network)
    found = least_path(graph, weights, "a", "f")
    try:
        least = nx.dijkstra_path_length(digraph_of(network), "a", "f")
    except nx.NetworkXNoPath:
        assert found is None
        return
    assert found is not None
    assert found.weight == least
    assert_path(found.links, network, least)


@QUICK
@given(networks)
def test_a_disjoint_pair_weighs_the_least_of_all_disjoint_pairs(network):
    graph, weights = graph_of(network)
    found = disjoint_pair(graph, weights, "a", "f")
    every = pair_weights(network)
    assert (found is None) == (not every)
    if found is not None:
        lighter, heavier = found
        assert lighter.weight <= heavier.weight
        assert lighter.weight + heavier.weight == min(every)
        assert_path(lighter.links, network, lighter.weight)
        assert_path(heavier.links, network, heavier.weight)
        assert not cables(lighter.links) & cables(heavier.links)


@QUICK
@given(networks)
def test_a_path_is_the_shortest_unless_only_a_longer_one_can_be_protected(network):
    graph, weights = graph_of(network)
    found = protected_path(graph, weights, "a", "f")
    shortest = least_path(graph, weights, "a", "f")
    assert (found is None) == (shortest is None)
    if found is None or shortest is None:
        return
    if found.backup is None:
        assert found.path == shortest
        assert not pair_weights(network)
    else:
        assert not cables(found.path.links) & cables(found.backup.links)
        beside = least_path(graph, weights, "a", "f", graph.cables(shortest.links))
        if beside is not None:
            assert (found.path, found.backup) == (shortest, beside)
        else:
            assert found.path.weight + found.backup.weight == min(pair_weights(network))


# ---- routes ---------------------------------------------------------------------------------------------------------

RING = [*pairwise("abcdefa"), ("a", "d"), ("b", "e")]
POLICY = Policy(smoothing_s=60, dwell_s=300, hold_s=30, evaluation_interval_s=20, settle_s=0)

changes = st.lists(
    st.tuples(
        st.sampled_from(RING),
        st.sampled_from((0.0, 0.3, 0.6, 0.79, 0.85, 1.0)),  # load
        st.sampled_from((True, True, True, False)),  # up
        st.sampled_from((0, 5, 40, 400)),  # seconds later
    ),
    max_size=30,
)
movements = st.lists(st.tuples(st.sampled_from("ad"), st.sampled_from("fc"), st.integers(1, 200)), max_size=3)


def observe(link, at, *, load=0.0, up=True):
    source, target = link
    return LinkObserved(
        link=f"{source}>{target}",
        source=source,
        target=target,
        capacity_bps=10e9,
        rate_bps=load * 10e9,
        latency_ms=5 + 3 * (ord(source) % 3),
        up=up,
        observed_at=at,
    )


def place(number, source, target, gib, at):
    data = DataSet(size_bytes=gib * 1024**3, site=source)
    spec = JobSpec(name="j", image="i", resources=Resources(), duration_estimate_s=60, data=data)
    return JobPlaced(
        job_id=f"j{number}",
        tenant="t",
        spec=spec,
        submitted_at=at,
        site=target,
        start_at=at,
        revision=1,
        reason=PlacementReason.LEAST_COST,
        cost=CostBreakdown(),
        decided_at=at,
    )


def run(steps, moves, policy=POLICY):
    """Play changes into a core; returns the core, all events and decisions, and the time."""
    core, now = SdnCore(policy), START
    events = [SiteObserved(site=site, observed_at=now, nodes=()) for site in "adfc"]
    events += [observe(hop, now) for a, b in RING for hop in ((a, b), (b, a))]
    events += [place(number, *move, now) for number, move in enumerate(moves) if move[0] != move[1]]
    state = {}
    for event in events:
        core.fold(event)
    decisions = list(core.decide(now))
    yield core, events, decisions, now, state
    for link, load, up, later in steps:
        now += timedelta(seconds=later + 0.001)
        state[link] = up
        event = observe(link, now, load=load, up=up)
        core.fold(event)
        events.append(event)
        decisions.extend(core.decide(now))
        yield core, events, decisions, now, state


def settle(core, decisions, now):
    """Let time pass until nothing is decided any more."""
    for _ in range(12):
        now += timedelta(seconds=301)
        decisions.extend(core.decide(now))
    return now


def routes(decisions):
    return [event for event in decisions if isinstance(event, RouteDecided)]


def latest(decisions):
    return {(route.source, route.target): route for route in routes(decisions)}


@QUICK
@given(changes, movements)
def test_routes_are_simple_paths_over_links_that_are_up_with_a_disjoint_backup(steps, moves):
    known = {hop for a, b in RING for hop in ((a, b), (b, a))}
    for _, _, decisions, _, state in run(steps, moves):
        for (source, target), route in latest(decisions).items():
            for path in (route.path, route.backup):
                if path:
                    assert (path[0], path[-1]) == (source, target)
                    assert len(set(path)) == len(path)
                    assert all(hop in known and state.get(hop, True) for hop in pairwise(path))
            assert not {frozenset(hop) for hop in pairwise(route.path)} & {
                frozenset(hop) for hop in pairwise(route.backup)
            }
            if not route.path:
                assert route.reason == RouteReason.NO_PATH


@QUICK
@given(changes, movements)
def test_revisions_count_and_changes_by_choice_keep_their_distance(steps, moves):
    *_, (core, _, decisions, now, _) = run(steps, moves)
    settle(core, decisions, now)
    for pair in latest(decisions):
        own = [route for route in routes(decisions) if (route.source, route.target) == pair]
        assert [route.revision for route in own] == list(range(1, len(own) + 1))
        for before, after in pairwise(own):
            assert (before.path, before.backup) != (after.path, after.backup)
            if after.reason in (RouteReason.CONGESTED, RouteReason.BETTER_PATH):
                assert (after.decided_at - before.decided_at).total_seconds() >= POLICY.dwell_s


@QUICK
@given(st.lists(st.tuples(st.sampled_from(RING), st.sampled_from((0.40, 0.44, 0.48))), max_size=40))
def test_counters_that_flap_a_little_change_no_route(loads):
    core, now = SdnCore(Policy(smoothing_s=0, dwell_s=0, evaluation_interval_s=0, settle_s=0)), START
    for site in "adfc":
        core.fold(SiteObserved(site=site, observed_at=now, nodes=()))
    for a, b in RING:
        core.fold(observe((a, b), now, load=0.44))
        core.fold(observe((b, a), now, load=0.44))
    assert len(routes(core.decide(now))) == 12
    for link, load in loads:
        now += timedelta(seconds=5)
        core.fold(observe(link, now, load=load))
        assert routes(core.decide(now)) == []


@QUICK
@given(changes, movements, st.randoms(use_true_random=False))
def test_recovery_in_any_interleaving_decides_nothing_again(steps, moves, shuffle):
    *_, (core, events, decisions, now, _) = run(steps, moves)
    now = settle(core, decisions, now)
    queues = {}
    for event in (*events, *decisions):
        queues.setdefault(event.key, []).append(event)
    standby = SdnCore(POLICY)
    while queues:
        key = shuffle.choice(sorted(queues))
        event = queues[key].pop(0)
        for _ in range(shuffle.choice((1, 1, 2))):
            standby.fold(event)
        if not queues[key]:
            del queues[key]
    assert standby.decide(now) == []
    link = observe(("a", "b"), now, up=False)
    core.fold(link)
    standby.fold(link)
    assert sorted(core.decide(now), key=lambda event: event.key) == sorted(
        standby.decide(now), key=lambda event: event.key
    )


@QUICK
@given(changes)
def test_of_a_network_at_rest_every_route_is_within_the_hysteresis_of_the_shortest(steps):
    *_, (core, events, decisions, now, state) = run(steps, [])
    settle(core, decisions, now)
    weights = {}
    for event in events:
        if isinstance(event, LinkObserved):
            weights[(event.source, event.target)] = core._links[event.link].weight(POLICY)
    digraph = nx.DiGraph()
    digraph.add_nodes_from(NODES)
    digraph.add_weighted_edges_from((*hop, weight) for hop, weight in weights.items() if state.get(hop, True))
    for (source, target), route in latest(decisions).items():
        if not nx.has_path(digraph, source, target):
            assert not route.path
        elif route.backup and nx.dijkstra_path_length(digraph, source, target) < 1e5:
            shortest = nx.dijkstra_path(digraph, source, target)
            rest = digraph.copy()
            rest.remove_edges_from([hop for pair in pairwise(shortest) for hop in (pair, pair[::-1])])
            if nx.has_path(rest, source, target):  # else a longer path is right, for it has a backup
                least = nx.dijkstra_path_length(digraph, source, target)
                assert sum(weights[hop] for hop in pairwise(route.path)) * (1 - POLICY.hysteresis) <= least + 1e-6


def test_a_strategy_that_finds_trap_topologies_is_not_vacuous():
    network = {("a", "b"): 1, ("b", "c"): 1, ("c", "f"): 1, ("a", "c"): 5, ("b", "f"): 5}
    graph, weights = graph_of(network)
    found = protected_path(graph, weights, "a", "f")
    assert found is not None
    assert found.backup is not None
    assert found.path.weight + found.backup.weight == pytest.approx(12)


# ---- latencies ------------------------------------------------------------------------------------------------------


@QUICK
@given(changes, movements)
def test_a_round_trip_is_the_sum_over_both_routes_to_within_what_is_no_news(steps, moves):
    policy = msgspec.structs.replace(POLICY, latency_fresh_s=1e6)
    *_, (core, events, decisions, now, _) = run(steps, moves, policy)
    settle(core, decisions, now)
    measured = {event.site: event.places for event in decisions if isinstance(event, SiteLatenciesMeasured)}
    links = {event.link: event.latency_ms for event in events if isinstance(event, LinkObserved)}
    assert measured.keys() == set("adfc")
    for (source, target), route in latest(decisions).items():
        back = latest(decisions)[target, source]
        told = measured[source][target].round_trip_ms
        if not route.path or not back.path:
            assert told is None
        else:
            true_ms = sum(links[f"{a}>{b}"] for path in (route.path, back.path) for a, b in pairwise(path))
            assert told is not None
            assert abs(told - true_ms) <= max(1.0, POLICY.latency_news * told) + 0.05


@QUICK
@given(changes)
def test_since_is_never_before_a_place_was_told_to_be_nearer(steps):
    policy = msgspec.structs.replace(POLICY, latency_fresh_s=1e6)
    *_, (core, _, decisions, now, _) = run(steps, [], policy)
    settle(core, decisions, now)
    told = [event for event in decisions if isinstance(event, SiteLatenciesMeasured)]
    for site in "adfc":
        own = [event for event in told if event.site == site]
        for last in own:
            for place, latency in last.places.items():
                height = float("inf") if latency.round_trip_ms is None else latency.round_trip_ms
                for event in own:
                    if latency.since <= event.measured_at <= last.measured_at:
                        before = event.places[place].round_trip_ms
                        assert before is None or before >= height
