"""Taints, cordons and drains as users meet them: the whole line on a real broker and database, from REST to REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from devstack.broker import KafkaBroker
from solyx.bus.kafka import KafkaBus
from solyx.events import Node, SiteObserved
from solyx.security import Role
from tests.integration.job_line import energy, entries, is_running, job_when, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.gateway_app import Running

WORK_S = 3600.0
JOB: dict[str, Any] = {
    "name": "long",
    "image": "busybox",
    "resources": {"cpu": 8},
    "duration_estimate": "1h",
    "suspendable": True,
    "grace_period": "2m",
    "labels": {"solyx.io/simulated-duration-s": str(WORK_S), "solyx.io/simulated-checkpoint-s": "30"},
}
LONG_WORK_S = 4 * WORK_S
LONG = JOB | {
    "duration_estimate": "4h",
    "labels": JOB["labels"] | {"solyx.io/simulated-duration-s": str(LONG_WORK_S)},
}
"""Does not end before the node is open again, although scenario time goes on while a busy machine catches up."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """Its own: the CMO would place other tests' jobs, too."""
    started = KafkaBroker(tmp_path / "kafka").start()
    yield started
    started.stop()


def site(solyx: Running, **taints: tuple[str, ...]) -> SiteObserved:
    nodes = tuple(
        Node(name=name, cpu_milli=8000, memory_bytes=2**36, taints=taints.get(name, ())) for name in ("a", "b")
    )
    return SiteObserved(site="oslo", observed_at=solyx.clock.now(), nodes=nodes)


def node_of(job: dict[str, Any]) -> str:
    return entries(job, "job.allocated")[-1]["figures"]["pods"][0]["node"]


@pytest.mark.timeout(300)
async def test_only_a_job_that_tolerates_a_taint_lands_on_the_node_that_has_it(
    postgres_url: str, broker: KafkaBroker, tmp_path: Path
) -> None:
    bus = KafkaBus(broker.bootstrap_servers, client_name="test")
    async with line(postgres_url, bus, tmp_path) as (solyx, client):
        solyx.publish(site(solyx, b=("infiniband",)), *energy(solyx))
        first = (await client.post("/v1/jobs", json=JOB)).json()["id"]
        assert node_of(await job_when(solyx, client, first, is_running)) == "a"
        second = (await client.post("/v1/jobs", json=JOB)).json()["id"]
        waiting = await job_when(solyx, client, second, lambda job: entries(job, "allocation.deferred"))
        detail = entries(waiting, "allocation.deferred")[0]["figures"]["detail"]
        assert "1 more on nodes with taints that it does not tolerate: infiniband" in detail
        tolerant = (await client.post("/v1/jobs", json=JOB | {"tolerations": ["infiniband"]})).json()["id"]
        assert node_of(await job_when(solyx, client, tolerant, is_running)) == "b"
        assert node_of(await job_when(solyx, client, second, is_running)) == "a"  # once the first has ended


@pytest.mark.timeout(300)
async def test_an_operator_drains_a_node_and_opens_it_again(
    postgres_url: str, broker: KafkaBroker, tmp_path: Path
) -> None:
    bus = KafkaBus(broker.bootstrap_servers, client_name="test")
    async with line(postgres_url, bus, tmp_path) as (solyx, client), solyx.client("admin", Role.ADMIN) as admin:
        solyx.publish(site(solyx), *energy(solyx))
        long = (await client.post("/v1/jobs", json=LONG)).json()["id"]
        emptied = node_of(await job_when(solyx, client, long, is_running))
        other = "ab".replace(emptied, "")
        solyx.clock.advance(900)

        ordered = await admin.put(f"/v1/sites/oslo/nodes/{emptied}", json={"state": "draining", "note": "new disk"})
        assert (ordered.status_code, ordered.json()["revision"]) == (200, 1)
        again = await job_when(solyx, client, long, lambda job: is_running(job, 2))
        assert node_of(again) == other
        (released,) = entries(again, "allocation.released")
        assert (released["reason"], released["figures"]["grace_s"]) == ("drained", 120)
        assert 900 <= entries(again, "job.placed")[-1]["figures"]["progress_s"] < LONG_WORK_S

        sites = (await client.get("/v1/sites")).json()
        states = {
            node["name"]: (node.get("ready", True), node.get("draining", False)) for node in sites["sites"][0]["nodes"]
        }
        assert states == {emptied: (False, True), other: (True, False)}
        assert [(one["node"], one["note"]) for one in sites["orders"][0]["orders"]] == [(emptied, "new disk")]

        solyx.publish(site(solyx))  # the inventory says that the node is ready; it stays closed all the same
        waiting = (await client.post("/v1/jobs", json=JOB)).json()["id"]
        deferred = await job_when(solyx, client, waiting, lambda job: job["waits"] is not None)
        assert deferred["state"] != "running"
        await admin.put(f"/v1/sites/oslo/nodes/{emptied}", json={"state": "open"})
        assert node_of(await job_when(solyx, client, waiting, is_running)) == emptied
        assert (await client.get("/v1/sites")).json()["orders"] == []
