"""Nodes and orders about them, on the command line."""

import json
from typing import Any

import pytest

from tests.unit.cli.cli_answers import AT, Solyx

SITES = {
    "sites": [
        {
            "site": "texas",
            "observed_at": AT,
            "nodes": [
                {"name": "n1", "cpu_milli": 8000, "memory_bytes": 2**36, "devices": [{"model": "A100", "count": 4}]},
                {
                    "name": "n2",
                    "cpu_milli": 8000,
                    "memory_bytes": 2**36,
                    "ready": False,
                    "draining": True,
                    "taints": ["slow"],
                },
            ],
        },
        {
            "site": "oslo",
            "observed_at": AT,
            "nodes": [{"name": "n1", "cpu_milli": 1000, "memory_bytes": 0, "ready": False}],
        },
    ],
    "orders": [
        {
            "site": "texas",
            "revision": 3,
            "orders": [{"node": "n2", "state": "draining", "note": "new disk", "since": AT}],
            "ordered_at": AT,
        }
    ],
}


ORDERED = {"site": "texas", "revision": 4, "orders": [], "ordered_at": AT}


def test_nodes_show_their_state_and_what_was_ordered(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/sites", SITES)
    lines = solyx("nodes").out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert [row[:7] for row in rows] == [
        ["texas", "n1", "ready", "8", "64", "4 A100", ""],
        ["texas", "n2", "draining", "8", "64", "", "slow"],
        ["oslo", "n1", "closed", "1", "0", "", ""],
    ]
    assert rows[1][7].startswith("draining ")
    assert rows[1][8] == "new disk"
    (first, second) = solyx("nodes", "texas", "--json").documents
    assert (first["site"], first["name"], first["order"]) == ("texas", "n1", None)
    assert second["order"]["note"] == "new disk"


def test_cordon_drain_and_uncordon_order_a_state(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/sites", SITES)
    gateway.on("PUT", "/v1/sites/texas/nodes/n1", ORDERED)
    for words, body in (
        (("drain", "texas", "n1", "--note", "new disk"), {"state": "draining", "note": "new disk"}),
        (("cordon", "texas", "n1"), {"state": "cordoned", "note": ""}),
        (("uncordon", "texas", "n1"), {"state": "open", "note": ""}),
    ):
        assert solyx(*words).out == f"texas/n1: {body['state']}\n"
        (order,) = [request for request in gateway.requests[-2:] if request.method == "PUT"][-1:]
        assert json.loads(order.content) == body
    assert solyx("drain", "texas", "n1", "--json").documents[0]["revision"] == 4


@pytest.mark.parametrize(("site", "node", "state"), [("texas", "n2", "draining"), ("oslo", "n1", "closed")])
def test_uncordon_says_when_the_site_itself_closes_the_node(
    solyx: Solyx, gateway: Any, site: str, node: str, state: str
) -> None:
    gateway.on("GET", "/v1/sites", SITES | {"orders": []})
    gateway.on("PUT", f"/v1/sites/{site}/nodes/{node}", ORDERED | {"site": site})
    told = f"{site}/{node}: open as far as orders go; its site says that it is {state}\n"
    assert solyx("uncordon", site, node).out == told
