"""Nodes and orders about them, on the command line."""

import json
from typing import Any

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
    answer = {"site": "texas", "revision": 4, "orders": [], "ordered_at": AT}
    gateway.on("PUT", "/v1/sites/texas/nodes/n2", answer)
    for words, body in (
        (("drain", "texas", "n2", "--note", "new disk"), {"state": "draining", "note": "new disk"}),
        (("cordon", "texas", "n2"), {"state": "cordoned", "note": ""}),
        (("uncordon", "texas", "n2"), {"state": "open", "note": ""}),
    ):
        assert solyx(*words).out == f"texas/n2: {body['state']}\n"
        assert json.loads(gateway.requests[-1].content) == body
    assert solyx("drain", "texas", "n2", "--json").documents[0]["revision"] == 4
