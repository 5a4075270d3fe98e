"""A job that goes on where it was stopped: the whole line on a real broker and database, from REST to REST."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from devstack.broker import KafkaBroker
from devstack.checker import TOPICS as CHECKED
from devstack.checker import check
from solyx.bus.kafka import KafkaBus
from solyx.events import JobPlaced, Node, SiteObserved, Victim, decode
from tests.integration.job_line import LONG_STEP_S, RESTART_S, energy, entries, is_running, job_when, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.gateway_app import Running

WORK_S, CHECKPOINT_S = 4 * 3600.0, 60.0
"""So much that it does not end before it is drained, although scenario time goes on while a busy machine catches up."""
LONG = {
    "name": "long",
    "image": "busybox",
    "resources": {"cpu": 8},
    "duration_estimate": "4h",
    "preemptible": True,
    "suspendable": True,
    "grace_period": "2m",
    "labels": {"solyx.io/simulated-duration-s": str(WORK_S), "solyx.io/simulated-checkpoint-s": str(CHECKPOINT_S)},
}
URGENT = {
    "name": "urgent",
    "image": "busybox",
    "resources": {"cpu": 8},
    "parallelism": 2,
    "duration_estimate": "10m",
    "priority": 10,
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """Its own: the CMO would place other tests' jobs, too."""
    started = KafkaBroker(tmp_path / "kafka").start()
    yield started
    started.stop()


def site(solyx: Running, *, draining: str = "") -> SiteObserved:
    nodes = tuple(
        Node(name=name, cpu_milli=8000, memory_bytes=2**36, ready=name != draining, draining=name == draining)
        for name in ("a", "b")
    )
    return SiteObserved(site="oslo", observed_at=solyx.clock.now(), nodes=nodes)


def small_site(solyx: Running, name: str) -> SiteObserved:
    """One node, which one of the jobs here fills."""
    node = Node(name=f"{name}-1", cpu_milli=8000, memory_bytes=2**36)
    return SiteObserved(site=name, observed_at=solyx.clock.now(), nodes=(node,))


@pytest.mark.timeout(300)
async def test_a_job_that_is_preempted_and_drained_goes_on_and_does_its_work_once(
    postgres_url: str, broker: KafkaBroker, tmp_path: Path
) -> None:
    bus = KafkaBus(broker.bootstrap_servers, client_name="test")
    async with line(postgres_url, bus, tmp_path) as (solyx, client):
        solyx.publish(site(solyx), *energy(solyx))
        long = (await client.post("/v1/jobs", json=LONG)).json()["id"]
        await job_when(solyx, client, long, is_running)
        solyx.clock.advance(900)

        urgent = (await client.post("/v1/jobs", json=URGENT)).json()["id"]
        waiting = await job_when(solyx, client, long, lambda job: job["state"] in ("submitted", "placed"))
        assert waiting["waits"]["reason"] in ("preempted", "resumed", "no_capacity")
        await job_when(solyx, client, urgent, lambda job: job["state"] == "succeeded")
        again = await job_when(solyx, client, long, lambda job: is_running(job, 2))
        solyx.clock.advance(600)

        (pod,) = entries(again, "job.allocated")[-1]["figures"]["pods"]
        solyx.publish(site(solyx, draining=pod["node"]))
        await job_when(solyx, client, long, lambda job: is_running(job, 3))
        await job_when(solyx, client, long, lambda job: job["state"] == "succeeded", step_s=LONG_STEP_S)
        story = await job_when(solyx, client, long, lambda job: len(entries(job, "allocation.released")) == 3)

    assert [entry["reason"] for entry in entries(story, "allocation.released")][:2] == ["preempted", "drained"]
    assert [entry["figures"].get("grace_s") for entry in entries(story, "allocation.released")][:2] == [120, 120]
    assert [entry["reason"] for entry in entries(story, "job.placed")][1:] == ["resumed", "resumed"]
    assert {entry["figures"]["attempt"] for entry in entries(story, "job.placed")} == {1}, "none was its own failure"
    kept = [
        r["figures"]["progress_s"] for r in entries(story, "workload.reported") if r["figures"]["status"] == "stopped"
    ]
    assert len(kept) == 2
    assert 900 <= kept[0] < kept[1] < WORK_S
    for kind in ("job.placed", "job.allocated"):
        assert [entry["figures"].get("progress_s", 0) for entry in entries(story, kind)] == [0, *kept]
    nodes = [entry["figures"]["pods"][0]["node"] for entry in entries(story, "job.allocated")]
    assert nodes[2] != nodes[1]
    ran_s = sum(
        (datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["started_at"])) / timedelta(seconds=1)
        for run in story["runs"]
    )
    assert ran_s == pytest.approx(WORK_S + 2 * RESTART_S + 2 * CHECKPOINT_S), "it runs only what is left"
    findings = check(_records(bus), accepted=[long, urgent])
    assert findings.clean, findings


@pytest.mark.timeout(300)
async def test_where_what_is_free_is_in_two_pieces_a_job_goes_on_elsewhere_so_that_a_larger_one_fits(
    postgres_url: str, broker: KafkaBroker, tmp_path: Path
) -> None:
    labels = {"solyx.io/simulated-duration-s": "7200", "solyx.io/simulated-checkpoint-s": str(CHECKPOINT_S)}
    half = LONG | {"resources": {"cpu": 4}, "duration_estimate": "2h", "labels": labels}
    fill = half | {"duration_estimate": "10m", "suspendable": False, "labels": {}}
    whole = half | {"resources": {"cpu": 8}, "duration_estimate": "1h", "suspendable": False, "labels": {}}
    bus = KafkaBus(broker.bootstrap_servers, client_name="test")
    async with line(postgres_url, bus, tmp_path) as (solyx, client):
        solyx.publish(site(solyx), *energy(solyx))
        submitted: list[str] = []
        for description in (half, fill, half, fill):
            submitted.append((await client.post("/v1/jobs", json=description)).json()["id"])
            await job_when(solyx, client, submitted[-1], is_running, step_s=1.0)
        halves, fills = submitted[::2], submitted[1::2]
        for one in fills:
            await job_when(solyx, client, one, lambda job: job["state"] == "succeeded", step_s=60.0)
        solyx.clock.advance(600)

        large = (await client.post("/v1/jobs", json=whole)).json()["id"]
        await job_when(solyx, client, large, is_running)
        (moved,) = [
            one for one in halves if entries(await job_when(solyx, client, one, is_running), "allocation.released")
        ]
        for one in (large, *halves):
            await job_when(solyx, client, one, lambda job: job["state"] == "succeeded", step_s=LONG_STEP_S)
        story = await job_when(solyx, client, moved, lambda job: len(entries(job, "allocation.released")) == 2)
        beside = await job_when(solyx, client, large, lambda job: entries(job, "allocation.released"))

    assert [entry["reason"] for entry in entries(story, "allocation.released")] == ["consolidated", "finished"]
    assert [entry["reason"] for entry in entries(story, "job.placed")][1:] == ["resumed"]
    assert entries(story, "job.placed")[-1]["figures"]["progress_s"] >= 600
    before, after = [entry["figures"]["pods"][0]["node"] for entry in entries(story, "job.allocated")]
    (taken,) = [entry["figures"]["pods"][0]["node"] for entry in entries(beside, "job.allocated")]
    assert before == taken != after
    findings = check(_records(bus), accepted=[*submitted, large])
    assert findings.clean, findings


@pytest.mark.timeout(300)
async def test_of_three_full_sites_the_one_with_the_cheapest_victim_makes_room_and_that_goes_on(
    postgres_url: str, broker: KafkaBroker, tmp_path: Path
) -> None:
    """At the first site work of a higher rank runs, at the second one that would begin anew, at the third one that keeps its work."""
    valued = LONG | {"name": "valued", "duration_estimate": "5h", "priority": 5, "allowed_sites": ["bergen"]}
    forgetful = LONG | {"name": "forgetful", "duration_estimate": "5h", "suspendable": False, "allowed_sites": ["oslo"]}
    keeping = LONG | {"name": "keeping", "duration_estimate": "2h", "max_delay": "24h"}
    bus = KafkaBus(broker.bootstrap_servers, client_name="test")
    async with line(postgres_url, bus, tmp_path) as (solyx, client):
        for name in ("bergen", "oslo", "tromso"):
            solyx.publish(small_site(solyx, name), *energy(solyx, name))
        others = []
        for description in (valued, forgetful):
            others.append((await client.post("/v1/jobs", json=description)).json()["id"])
            await job_when(solyx, client, others[-1], is_running)
        victim = (await client.post("/v1/jobs", json=keeping)).json()["id"]
        await job_when(solyx, client, victim, is_running)
        solyx.clock.advance(900)

        urgent = (await client.post("/v1/jobs", json=URGENT | {"parallelism": 1, "max_delay": "0s"})).json()["id"]
        done = await job_when(solyx, client, urgent, lambda job: job["state"] == "succeeded")
        for one in (victim, *others):
            await job_when(solyx, client, one, lambda job: job["state"] == "succeeded", step_s=LONG_STEP_S)
        # what is released is told in another topic than what has ended, and may be read a moment later
        story = await job_when(solyx, client, victim, lambda job: len(entries(job, "allocation.released")) == 2)
        *untouched, _ = [
            await job_when(solyx, client, one, lambda job: entries(job, "allocation.released"))
            for one in (*others, urgent)
        ]

    (placed,) = entries(done, "job.placed")
    assert placed["site"] == "tromso"
    assert placed["figures"]["bound_by"].endswith("waits in the site's queue until 1 of lower priority has made room")
    assert [entry["reason"] for entry in entries(story, "allocation.released")] == ["preempted", "finished"]
    assert [entry["reason"] for entry in entries(story, "job.placed")][1:] == ["resumed"]
    assert entries(story, "job.placed")[-1]["figures"]["progress_s"] >= 900
    for other in untouched:
        assert [entry["reason"] for entry in entries(other, "allocation.released")] == ["finished"]
        assert other["revision"] == 1
    records = _records(bus)
    events = [decode(record.value, record.headers).event for record in records if record.value]
    (plan,) = [event.victims for event in events if isinstance(event, JobPlaced) and event.job_id == urgent]
    assert plan == (Victim(job_id=victim, revision=1),)
    findings = check(records, accepted=[*others, victim, urgent])
    assert findings.clean, findings


def _records(bus: KafkaBus) -> list[Any]:
    tail, found = bus.tail(list(CHECKED)), []
    while not tail.caught_up():
        found.extend(tail.read(max_records=1000, timeout_s=0.2))
    tail.close()
    return found
