"""Orders about nodes over HTTP, on a real database: who may give them, what is refused, what reaches the log."""

import asyncio

import pytest

from solyx.events import Node, NodesOrdered, SiteObserved, decode
from solyx.security import Role
from tests.gateway_app import Running, until
from tests.gateway_events import at

OSLO = SiteObserved(
    site="oslo",
    observed_at=at(0),
    nodes=tuple(Node(name=name, cpu_milli=8000, memory_bytes=2**36) for name in ("n1", "n2")),
)
PATH = "/v1/sites/oslo/nodes/n1"


async def observed(solyx: Running) -> None:
    solyx.publish(OSLO)

    async def arrived() -> bool:
        async with solyx.client() as client:
            return bool((await client.get("/v1/sites")).json()["sites"])

    await until(arrived)


def told(solyx: Running) -> list[NodesOrdered]:
    found = [decode(record.value, record.headers).event for record in solyx.bus.records("nodes") if record.value]  # type: ignore[attr-defined]
    return [event for event in found if isinstance(event, NodesOrdered)]


async def test_orders_reach_the_log_whole_and_in_order_and_a_repeat_says_nothing(solyx: Running) -> None:
    await observed(solyx)
    async with solyx.client("admin", Role.ADMIN) as admin:
        await admin.put(PATH, json={"state": "cordoned", "note": "noisy fan"})
        both = await asyncio.gather(
            admin.put("/v1/sites/oslo/nodes/n2", json={"state": "draining"}),
            admin.put(PATH, json={"state": "draining", "note": "noisy fan"}),
        )
        assert {answer.json()["revision"] for answer in both} == {2, 3}
        assert (await admin.put(PATH, json={"state": "draining", "note": "noisy fan"})).json()["revision"] == 3
        await admin.put(PATH, json={"state": "open"})

        async def arrived() -> bool:
            return len(told(solyx)) == 4

        await until(arrived)
        await asyncio.sleep(0.2)
    assert [event.revision for event in told(solyx)] == [1, 2, 3, 4]
    assert [[(o.node, o.state) for o in event.orders] for event in told(solyx)][2:] == [
        [("n1", "draining"), ("n2", "draining")],
        [("n2", "draining")],
    ]


async def test_an_order_shows_in_the_sites_at_once_and_after_the_inventory_comes_again(solyx: Running) -> None:
    await observed(solyx)
    async with solyx.client("admin", Role.ADMIN) as admin, solyx.client() as client:
        await admin.put(PATH, json={"state": "cordoned"})
        for _ in range(2):
            answer = (await client.get("/v1/sites")).json()
            assert [node.get("ready", True) for node in answer["sites"][0]["nodes"]] == [False, True]
            assert [order["node"] for order in answer["orders"][0]["orders"]] == ["n1"]
            solyx.publish(SiteObserved(site="oslo", observed_at=at(9), nodes=OSLO.nodes))
            await asyncio.sleep(0.3)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/v1/sites/oslo/nodes/n9", {"state": "draining"}, 404, None),
        ("/v1/sites/bergen/nodes/n1", {"state": "draining"}, 404, None),
        (PATH, {"state": "drained"}, 422, "state"),
        (PATH, {}, 422, "state"),
        (PATH, {"state": "open", "reason": "x"}, 422, "reason"),
        (PATH, {"state": "open", "note": "x" * 501}, 422, "note"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    solyx: Running, path: str, body: dict[str, str], status: int, field: str | None
) -> None:
    await observed(solyx)
    async with solyx.client("admin", Role.ADMIN) as admin:
        answer = await admin.put(path, json=body)
    assert answer.status_code == status, answer.text
    if field is not None:
        (error,) = answer.json()["errors"]
        assert field in error["field"] + error["message"]
        assert error["cure"]
    assert told(solyx) == []


async def test_only_an_administrator_gives_orders(solyx: Running) -> None:
    await observed(solyx)
    async with solyx.client() as client:
        assert (await client.put(PATH, json={"state": "draining"})).status_code == 403
