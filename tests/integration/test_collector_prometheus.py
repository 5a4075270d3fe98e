"""The collector and a real Prometheus: polled by instant and range query, and written to by it."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from solyx.events import FeedReported, MetricsScraped
from tests.integration.collector_running import Running, running_collector
from tests.integration.prometheus_binary import running_prometheus

SCRAPE = """
global:
  scrape_interval: 500ms
scrape_configs:
  - job_name: machines
    static_configs:
      - targets: ['{exporter}']
        labels: {{site: berlin}}
"""
WRITE = (
    SCRAPE
    + """
remote_write:
  - url: {collector}/api/v1/write
    authorization: {{credentials: sesame}}
    queue_config: {{batch_send_deadline: 200ms, max_backoff: 1s}}
"""
)
pytestmark = pytest.mark.timeout(400)  # the first test may install Prometheus

TEMPERATURE = 'temperature_celsius{instance="%s",job="machines",room="a\\"b",site="berlin"}'


@pytest.fixture
async def exporter() -> AsyncIterator[str]:
    """host:port of something to scrape: a temperature that rises, and a NaN."""
    counted = iter(range(1_000_000))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=f'temperature_celsius{{room="a\\"b"}} {next(counted) + 0.5}\nbroken NaN\nzero 0\n')

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def values(collector: Running, series: str) -> dict[float, float]:
    """Time → value."""
    return {
        at: value
        for event in collector.events(MetricsScraped)
        for name, value, at in zip(event.series, event.values, event.times_s, strict=True)
        if name == series
    }


async def started(directory: Path, config: str):
    """A Prometheus, started without holding up the loop that serves its exporter."""
    server = running_prometheus(directory, config)
    return server, await asyncio.to_thread(server.__enter__)


async def test_a_real_prometheus_is_polled_by_instant_and_range_query(exporter, tmp_path):
    server, prometheus = await started(tmp_path, SCRAPE.format(exporter=exporter))
    try:
        queries = [
            {"name": "now", "query": "temperature_celsius", "every_s": 0.3},
            {"name": "all", "query": "temperature_celsius[30s]", "every_s": 0.3},
            {"name": "nan", "query": "broken", "every_s": 0.3, "stale_after_s": 0.1},
            {"name": "half", "query": "sum(temperature_celsius) / 2", "mode": "range", "every_s": 0.3, "step_s": 1},
        ]
        source = {"name": "lab", "queries": queries, "static": [{"targets": [prometheus], "labels": {"zone": "DE"}}]}
        name = TEMPERATURE.replace("}", ',zone="DE"}') % exporter
        async with running_collector(tmp_path, {"prometheus": [source]}) as collector:
            await collector.until(lambda: len(values(collector, name)) >= 6, "samples with their own times")
            await collector.until(lambda: len(values(collector, 'half{zone="DE"}')) >= 3, "points of the range")
            await collector.until(lambda: reports(collector, "lab/nan"), "a report on the series without a number")
            await collector.until(lambda: reports(collector, "lab/now"), "a report on the query that works")
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)
    scraped = values(collector, name)
    assert [value for _, value in sorted(scraped.items())] == sorted(scraped.values())  # it only ever rose
    assert all(value % 1 == 0.5 for value in scraped.values())
    assert abs(max(scraped) - time.time()) < 120
    points = sorted(values(collector, 'half{zone="DE"}'))
    assert {round(later - earlier, 3) for earlier, later in itertools.pairwise(points)} == {1.0}
    by_source = {event.source for event in collector.events(MetricsScraped)}
    assert by_source == {"berlin", prometheus}  # the sum has no site: it is the server's
    assert not any(name.startswith("broken") for event in collector.events(MetricsScraped) for name in event.series)
    assert reports(collector, "lab/now")[0].status == "fresh"
    assert {report.status for report in reports(collector, "lab/nan")} == {"stale"}  # there never was a number


def reports(collector: Running, feed: str) -> list[FeedReported]:
    return [event for event in collector.events(FeedReported) if event.feed.split("@")[0] == feed]


async def test_a_real_prometheus_writes_into_the_collector(exporter, tmp_path):
    async with running_collector(tmp_path, {}, token="sesame") as collector:
        server, _ = await started(tmp_path, WRITE.format(exporter=exporter, collector=collector.url))
        try:
            name = TEMPERATURE % exporter
            await collector.until(lambda: len(values(collector, name)) >= 4, "samples that Prometheus sent")
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)
    assert all(value % 1 == 0.5 for value in values(collector, name).values())
    zeros = values(collector, f'zero{{instance="{exporter}",job="machines",site="berlin"}}')
    assert set(zeros.values()) == {0.0}
    assert {event.source for event in collector.events(MetricsScraped)} == {"berlin"}
    assert all(len(event.series) <= 500 for event in collector.events(MetricsScraped))
    ids = [dict(record.headers)["ce_id"] for record in collector.bus.records("metrics")]
    assert len(set(ids)) == len(ids)


async def test_prometheus_sends_again_what_was_not_safe(exporter, tmp_path):
    """While Kafka takes nothing it gets 503, keeps its samples, and none is missing afterwards."""
    from solyx.bus.memory import MemoryBus
    from solyx.bus.port import Transient

    class AwayAtFirst(MemoryBus):
        away = True

        def append(self, records) -> None:
            if self.away:
                raise Transient("the broker is away", after_s=0.1)
            super().append(records)

    bus = AwayAtFirst()
    before = refused_writes()
    settings = {"token": "sesame", "publish_timeout_s": 0.3, "buffer_bytes": 2000}
    async with running_collector(tmp_path, {}, bus=bus, **settings) as collector:
        server, prometheus = await started(tmp_path, WRITE.format(exporter=exporter, collector=collector.url))
        try:
            async with aiohttp.ClientSession() as client, asyncio.timeout(60):
                kept: dict[float, float] = {}
                while refused_writes() < before + 2 or not kept:
                    await asyncio.sleep(0.1)
                    kept = await stored(client, prometheus)
            assert not bus.records("metrics")
            bus.away = False
            name = TEMPERATURE % exporter
            await collector.until(lambda: kept.items() <= values(collector, name).items(), "every sample, late")
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


def refused_writes() -> float:
    """Remote writes that this process has answered 503."""
    return REGISTRY.get_sample_value("solyx_collector_remote_writes_total", {"status": "503"}) or 0.0


async def stored(client: aiohttp.ClientSession, prometheus: str) -> dict[float, float]:
    """Time → value of the temperatures that Prometheus itself has."""
    query = {"query": "temperature_celsius[5m]"}
    async with client.get(f"http://{prometheus}/api/v1/query", params=query) as answer:
        result = (await answer.json())["data"]["result"]
    return {at: float(value) for series in result for at, value in series["values"]}


async def polled(collector: Running) -> list[str]:
    """The queries that are put to servers now."""
    async with aiohttp.ClientSession() as client, client.get(f"{collector.url}/readyz") as answer:
        return [name for name in (await answer.json())["feeds"] if "@" in name]


async def test_servers_are_found_in_files_and_at_an_endpoint_and_lost_again(exporter, tmp_path):
    server, prometheus = await started(tmp_path, SCRAPE.format(exporter=exporter))
    inventory: list = []

    async def listed(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer t0ken"
        return web.json_response(inventory)

    app = web.Application()
    app.router.add_get("/sd", listed)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/sd"
    source = {
        "name": "found",
        "files": ["targets/*.json", "targets/*.yaml"],
        "http_sd": [{"url": endpoint, "http": {"auth": {"bearer_token": "t0ken"}}}],
        "refresh_s": 0.2,
        "source_labels": ["via"],
        "queries": [{"name": "zero", "query": "zero", "every_s": 0.2}],
    }
    (tmp_path / "targets").mkdir()

    def via(collector: Running) -> set[str]:
        return {event.source for event in collector.events(MetricsScraped)}

    try:
        async with running_collector(tmp_path, {"prometheus": [source]}) as collector:
            await asyncio.sleep(0.5)
            assert via(collector) == set()
            groups = [{"targets": [prometheus], "labels": {"via": "file"}}]
            (tmp_path / "targets" / "a.json").write_text(json.dumps(groups))
            await collector.until(lambda: "file" in via(collector), "the server in the new file")
            (tmp_path / "targets" / "a.json").write_text(json.dumps(groups).replace("file", "edited"))
            await collector.until(lambda: "edited" in via(collector), "the file as it was changed")
            (tmp_path / "targets" / "a.json").write_text("{ half a fi")
            count = len(collector.events(MetricsScraped))
            await collector.until(lambda: len(collector.events(MetricsScraped)) > count + 3, "a broken file keeps")
            assert await polled(collector) == [f"found/zero@{prometheus}"]
            (tmp_path / "targets" / "a.json").unlink()
            while await polled(collector):  # noqa: ASYNC110 - it is asked over HTTP; a test's time limit ends it
                await asyncio.sleep(0.05)
            gone = sum(event.source == "edited" for event in collector.events(MetricsScraped))
            inventory.append({"targets": [prometheus], "labels": {"via": "endpoint"}})
            await collector.until(lambda: "endpoint" in via(collector), "the server at the endpoint")
            assert sum(event.source == "edited" for event in collector.events(MetricsScraped)) == gone
    finally:
        await runner.cleanup()
        await asyncio.to_thread(server.__exit__, None, None, None)
