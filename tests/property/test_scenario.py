"""What holds of scenarios whatever their figures."""

from datetime import UTC, datetime, time, timedelta

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solyx.scenario import DayAheadMarket, Link, known_at, next_publication
from solyx.scenario.inventory import parse_selection
from solyx.scenario.network import route_matrices

QUICK = settings(max_examples=60, deadline=None)
MARKETS = [
    DayAheadMarket(zone="z", published=time(12, 45), timezone=timezone)
    for timezone in ("Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe", "UTC")
]
times = st.datetimes(datetime(2021, 1, 1), datetime(2025, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
latencies = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda hop: hop[0] != hop[1]),
    st.sampled_from([1.0, 2.5, 7.25, 11.125]),
    min_size=1,
    max_size=20,
)


@QUICK
@given(st.sampled_from(MARKETS), times, st.timedeltas(timedelta(), timedelta(days=3)))
def test_what_was_known_stays_known_and_never_lies_far_ahead(market, now, later):
    known, then = known_at(now, market), known_at(now + later, market)
    assert known.price <= then.price
    assert known.carbon <= then.carbon
    assert now - timedelta(hours=1) < known.carbon <= now
    assert now < known.price <= now + timedelta(hours=37)


@QUICK
@given(st.sampled_from(MARKETS), times)
def test_prices_reach_further_from_the_publication_on(market, now):
    publication = next_publication(now, market)
    assert now < publication <= now + timedelta(hours=26)
    assert known_at(publication, market).price > known_at(publication - timedelta(seconds=1), market).price


@QUICK
@given(latencies, st.integers(0, 2**32 - 1))
def test_routing_down_a_tree_equals_routing_pair_by_pair(network, seed):
    links = [
        Link(name=f"{a}>{b}", source=str(a), target=str(b), capacity_bps=1e9, latency_ms=latency)
        for (a, b), latency in network.items()
    ]
    nodes = [str(node) for node in range(6)]
    demands = np.random.default_rng(seed).uniform(0, 1e8, size=(2, 6, 6))
    rates = route_matrices(links, nodes, demands)
    digraph = nx.DiGraph()
    digraph.add_nodes_from(nodes)
    digraph.add_weighted_edges_from((link.source, link.target, link.latency_ms) for link in links)
    # Equal paths may differ, but the traffic × latency that they carry is the same.
    for period in range(2):
        least = sum(
            distance * demands[period, int(source), int(target)]
            for source, reached in nx.all_pairs_dijkstra_path_length(digraph)
            for target, distance in reached.items()
        )
        carried = sum(rate * link.latency_ms for rate, link in zip(rates[period], links, strict=True))
        assert carried == pytest.approx(least)
    assert (rates >= 0).all()


@QUICK
@given(
    st.integers(1, 200), st.integers(0, 200), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.integers(0, 2000)
)
def test_a_selection_means_what_it_says(modulus, value, comparison, index):
    selects = parse_selection(f"index % {modulus} {comparison} {value}")
    remainder = index % modulus
    assert (
        selects(index)
        == {
            "==": remainder == value,
            "!=": remainder != value,
            "<": remainder < value,
            "<=": remainder <= value,
            ">": remainder > value,
            ">=": remainder >= value,
        }[comparison]
    )
