"""The collector as a virtual end node of OpenADR 3, over HTTP, against the project's own small VTN and OpenLEADR's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from services.collector.service import openadr
from solyx.bus.memory import MemoryBus
from solyx.events import DemandResponseReported, FeedReported, GridEventAnnounced, encode
from tests.integration.collector_running import running_collector
from tests.vtn import PROGRAM, VEN_ID, VEN_SECRET, Utility, openleadr, openleadr_vtn, small_vtn

NOW = datetime.now(UTC).replace(microsecond=0)
SOON = NOW + timedelta(hours=1)
HOUR = timedelta(hours=1)


# OpenLEADR's is no package that a test could install; where it is, the same tests run against it too (tests/vtn.py).
@pytest.fixture(params=["small", "openleadr"] if openleadr() else ["small"])
async def utility(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Utility]:
    """Of either VTN, with the VEN enrolled."""
    async with AsyncExitStack() as stack:
        if request.param == "small":
            utility, _ = await stack.enter_async_context(small_vtn())
        else:
            server = request.getfixturevalue("postgres_server")
            utility = await stack.enter_async_context(openleadr_vtn(server, tmp_path))
        await utility.enroll("berlin-dc", "texas-dc")
        yield utility


def configuration(utility: Utility, **changes) -> dict:
    feed = {
        "name": "tso",
        "url": utility.url,
        "auth": {"client_id": VEN_ID, "client_secret": VEN_SECRET},
        "program": PROGRAM,
        "sites": [
            {"site": "berlin", "targets": ["berlin-dc"], "simple_caps_w": [30_000, 20_000]},
            {"site": "texas", "targets": ["texas-dc"]},
        ],
        "every_s": 0.1,
        "stale_after_s": 0.3,
    }
    return {"openadr": [feed | changes], "max_backoff_s": 0.2}


async def test_an_event_is_announced_at_its_target_changed_and_cancelled(utility, tmp_path):
    async with running_collector(tmp_path, configuration(utility)) as collector:
        event = await utility.announce(start=SOON, values=(40.0, 30.0), targets=("berlin-dc",))
        await collector.until(lambda: len(collector.events(GridEventAnnounced)) == 2, "both intervals")
        first, second = collector.events(GridEventAnnounced)
        assert (first.site, first.start, first.end, first.power_cap_w) == ("berlin", SOON, SOON + HOUR, 40_000)
        assert (second.site, second.start, second.end, second.power_cap_w) == (
            "berlin",
            SOON + HOUR,
            SOON + 2 * HOUR,
            30_000,
        )
        assert first.event_id == f"tso.{event['id']}.0"

        await utility.change(event, start=SOON, values=(35.0, 30.0), targets=("berlin-dc",))
        await collector.until(lambda: len(collector.events(GridEventAnnounced)) == 3, "the change alone")
        assert (
            collector.events(GridEventAnnounced)[2].event_id,
            collector.events(GridEventAnnounced)[2].power_cap_w,
        ) == (
            first.event_id,
            35_000,
        )
        await utility.delete(event)
        await collector.until(lambda: len(collector.events(GridEventAnnounced)) == 5, "both cancelled")
        assert [one.status for one in collector.events(GridEventAnnounced)[3:]] == ["cancelled", "cancelled"]


async def test_what_was_deleted_while_nobody_polled_is_cancelled_after_a_restart(utility, tmp_path):
    bus = MemoryBus()
    event = await utility.announce(start=SOON)
    async with running_collector(tmp_path, configuration(utility), bus=bus) as collector:
        await collector.until(lambda: len(collector.events(GridEventAnnounced)) == 2, "at both sites")
    await utility.delete(event)
    async with running_collector(tmp_path, configuration(utility), bus=bus) as collector:
        await collector.until(lambda: len(collector.events(GridEventAnnounced)) == 4, "cancelled at both sites")
        cancelled = {one.site for one in collector.events(GridEventAnnounced) if one.status == "cancelled"}
        assert cancelled == {"berlin", "texas"}


async def test_what_was_delivered_is_reported_and_the_report_is_brought_up_to_date(utility, tmp_path):
    bus = MemoryBus()
    async with running_collector(tmp_path, configuration(utility), bus=bus) as collector:
        event = await utility.announce(start=NOW - HOUR, duration="PT3H", targets=("berlin-dc",))
        await collector.until(lambda: collector.events(GridEventAnnounced), "the event")
        announced = collector.events(GridEventAnnounced)[0]
        respond(bus, announced, "active", 39_000)
        (report,) = await reported(utility, 39.0)
        assert (report["eventID"], report["clientName"]) == (event["id"], "solyx")
        assert payloads(report)["BASELINE"] == 52.0
        assert payloads(report)["OPERATING_STATE"] == "RUNNING_CURTAILED"
        respond(bus, announced, "ended", 39_250)
        (report,) = await reported(utility, 39.25)
        assert payloads(report)["OPERATING_STATE"] == "NORMAL"
        assert payloads(report)["DATA_QUALITY"] == "ESTIMATED"


def respond(bus: MemoryBus, announced: GridEventAnnounced, status: str, mean_w: float) -> None:
    """What the CMO says that the site delivers."""
    response = DemandResponseReported(
        event_id=announced.event_id,
        site=announced.site,
        start=announced.start,
        end=announced.end,
        power_cap_w=announced.power_cap_w,
        status=status,
        baseline_w=52_000,
        mean_w=mean_w,
        reported_at=NOW,
    )
    bus.append([encode(response, source="solyx/cmo", time=NOW)])


async def reported(utility: Utility, demand_kw: float) -> list[dict]:
    """The reports, once the first of them says so."""
    for _ in range(300):
        reports = await utility.reports()
        if reports and payloads(reports[0])["DEMAND"] == demand_kw:
            return reports
        await asyncio.sleep(0.05)
    raise AssertionError(await utility.reports())


async def test_a_report_outlasts_refusals_that_pass_and_a_vtn_that_lost_it(tmp_path, monkeypatch):
    monkeypatch.setattr(openadr, "RETRY_S", 0.05)
    bus = MemoryBus()
    async with small_vtn() as (utility, vtn):
        await utility.enroll("berlin-dc")
        async with running_collector(tmp_path, configuration(utility), bus=bus) as collector:
            await utility.announce(start=NOW - HOUR, duration="PT3H", targets=("berlin-dc",))
            await collector.until(lambda: collector.events(GridEventAnnounced), "the event")
            announced = collector.events(GridEventAnnounced)[0]
            vtn.refusals = [429, 403]
            respond(bus, announced, "active", 39_000)
            await reported(utility, 39.0)
            vtn.objects["reports"].clear()
            respond(bus, announced, "ended", 39_250)
            await reported(utility, 39.25)
            vtn.refusals = [400]
            respond(bus, announced, "ended", 1_000)
            await collector.until(lambda: not vtn.refusals, "refused for good: what follows is not held up")
            respond(bus, announced, "ended", 39_500)
            await reported(utility, 39.5)


def payloads(report) -> dict:
    (resource,) = report["resources"]
    assert resource["resourceName"] == "berlin"
    return {one["type"]: one["values"][0] for one in resource["intervals"][0]["payloads"]}


async def test_a_simple_level_without_a_power_makes_the_feed_fail_and_the_rest_is_followed(utility, tmp_path):
    async with running_collector(tmp_path, configuration(utility)) as collector:
        await utility.announce(start=SOON, kind="SIMPLE", values=(3,), unit=None, targets=("berlin-dc",))
        await utility.announce(start=SOON, kind="SIMPLE", values=(2,), unit=None, targets=("berlin-dc",))
        await collector.until(lambda: collector.events(GridEventAnnounced), "level 2")
        assert [one.power_cap_w for one in collector.events(GridEventAnnounced)] == [20_000]
        await collector.until(lambda: stale(collector), "the feed is reported stale")
        assert "no power for level 3" in stale(collector)[0].error


def stale(collector) -> list[FeedReported]:
    return [one for one in collector.events(FeedReported) if one.status == "stale"]


async def test_a_vtn_that_fails_is_reported_stale_and_nothing_is_cancelled(tmp_path):
    async with small_vtn() as (utility, vtn):
        await utility.enroll()
        await utility.announce(start=SOON)
        async with running_collector(tmp_path, configuration(utility)) as collector:
            await collector.until(lambda: len(collector.events(GridEventAnnounced)) == 2, "the event")
            vtn.failing = True
            await collector.until(lambda: stale(collector), "stale")
            assert "503" in stale(collector)[0].error
            vtn.failing = False
            await collector.until(lambda: collector.events(FeedReported)[-1].status == "fresh", "fresh again")
            assert {one.status for one in collector.events(GridEventAnnounced)} == {"announced"}


async def test_a_token_is_used_until_it_is_refused(tmp_path):
    async with small_vtn() as (utility, vtn):
        await utility.enroll()
        async with running_collector(tmp_path, configuration(utility)) as collector:
            await collector.until(lambda: collector.events(FeedReported), "the first poll")
            assert vtn.token_requests == 1
            vtn.tokens.clear()
            await utility.announce(start=SOON)
            await collector.until(lambda: collector.events(GridEventAnnounced), "polled with a new token")
            assert vtn.token_requests == 2


async def test_a_program_that_the_vtn_does_not_show_is_named(tmp_path):
    async with (
        small_vtn() as (utility, _),
        running_collector(tmp_path, configuration(utility, program="frequency")) as collector,
    ):
        await collector.until(lambda: stale(collector), "stale")
        assert "'frequency'" in stale(collector)[0].error
