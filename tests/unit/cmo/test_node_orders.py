"""Nodes that operators cordon: the CMO places nothing that needs them."""

from itertools import permutations

from solyx.events import NodeOrder, NodesOrdered
from tests.unit.cmo.cmo_builders import at, core, flat, node, placements, site, submitted


def ordered(revision: int, *nodes: str) -> NodesOrdered:
    orders = tuple(NodeOrder(node=name, state="cordoned", since=at(0)) for name in nodes)
    return NodesOrdered(site="a", revision=revision, orders=orders, ordered_at=at(0))


def test_a_job_goes_where_enough_nodes_are_open() -> None:
    two = [site(name, node("n1"), node("n2"), hours=0.1) for name in ("a", "b")]
    job = submitted("j", cores=8, pods=2)
    (placed,) = placements(core(*flat("a", "b"), *two, ordered(1, "n2"), job).decide(at(0.2)))
    assert placed.site == "b"


def test_orders_and_observations_commute_and_the_latest_revision_holds() -> None:
    facts = [
        site("a", node("n1"), node("n2"), hours=0.1),
        site("a", node("n1"), node("n2"), hours=0.2, egress=1.0),
        ordered(1, "n1", "n2"),
        ordered(2, "n2"),
    ]
    for order in permutations(facts):
        made = core(*flat("a"), *order, *order)
        assert sum(made._sites.by_name["a"].ready.values()) == 1
        assert sum(made._sites.by_name["a"].ever.values()) == 2
