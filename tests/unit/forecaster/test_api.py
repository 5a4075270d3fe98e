"""What HTTP answers."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web

from services.forecaster.api import make_api
from services.forecaster.service.board import Board
from solyx.bus.memory import MemoryBus
from solyx.events import ForecastIssued, SeriesWindowed, encode
from solyx.topics import FEATURES, FORECASTS

NOW = datetime(2026, 3, 10, 10, tzinfo=UTC)


def forecast(subject, kind, issued_at=NOW):
    row = (1.0, 2.0)
    return ForecastIssued(
        subject_id=subject,
        kind=kind,
        issued_at=issued_at,
        start=NOW,
        step_s=3600.0,
        mean=row,
        lower=row,
        upper=row,
        model="seasonal_naive",
    )


def window(source, start, size_s, mean):
    row = (mean,)
    return SeriesWindowed(
        source=source,
        window_start=start,
        window_end=start + timedelta(seconds=size_s),
        series=("cpu",),
        count=(3,),
        mean=row,
        min=row,
        max=row,
        last=row,
    )


class Server:
    def __init__(self, bus):
        self.bus, self.board = bus, Board(bus)
        self.ready = (True, {"shards": [0]})

    def publish(self, *events):
        publisher = self.bus.publisher(name="test")
        publisher.publish([encode(event, source="test", time=NOW) for event in events])

    async def get(self, path):
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return response.status, response.content_type, await response.json()

    async def until(self, path, accept):
        for _ in range(200):
            status, _, body = await self.get(path)
            if status == 200 and accept(body):
                return body
            await asyncio.sleep(0.02)
        raise AssertionError(await self.get(path))


@pytest.fixture
async def server():
    with MemoryBus() as bus:
        bus.ensure_topics([FORECASTS, FEATURES])
        server = Server(bus)
        server.publish(forecast("rome", "price_eur_per_mwh"))
        server.board.start()
        runner = web.AppRunner(make_api(server.board, lambda: server.ready))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await server.until("/v1/forecasts", lambda body: len(body) == 1)
        yield server
        await runner.cleanup()
        await asyncio.to_thread(server.board.stop)


async def test_the_latest_forecast_of_each_series_is_served(server):
    server.publish(forecast("rome", "price_eur_per_mwh", NOW + timedelta(hours=1)), forecast("oslo", 'load{app="a/b"}'))
    listed = await server.until("/v1/forecasts", lambda body: len(body) == 2)
    assert [event["subject_id"] for event in listed] == ["oslo", "rome"]
    _, _, one = await server.get("/v1/forecasts/rome/price_eur_per_mwh")
    assert one["issued_at"] == "2026-03-10T11:00:00Z"
    _, _, load = await server.get('/v1/forecasts/oslo/load{app="a%2Fb"}')
    assert load["kind"] == 'load{app="a/b"}'
    _, _, of_rome = await server.get("/v1/forecasts?subject=rome")
    assert [event["subject_id"] for event in of_rome] == ["rome"]


async def test_the_newest_window_of_each_size_is_served(server):
    minute = timedelta(minutes=1)
    server.publish(window("rome/node-1", NOW, 60, 1.0), window("rome/node-1", NOW, 300, 2.0))
    server.publish(window("rome/node-1", NOW + minute, 60, 3.0), window("rome/node-1", NOW - minute, 300, 4.0))
    windows = await server.until("/v1/features/rome/node-1", lambda body: body[0]["mean"] == [3.0])
    assert [(event["mean"], event["window_start"]) for event in windows] == [
        ([3.0], "2026-03-10T10:01:00Z"),
        ([2.0], "2026-03-10T10:00:00Z"),
    ]


@pytest.mark.parametrize("path", ["/v1/forecasts/rome/nothing", "/v1/features/nobody", "/v2"])
async def test_what_is_not_there_is_a_problem_document(server, path):
    status, kind, body = await server.get(path)
    assert (status, kind) == (404, "application/problem+json")
    assert body["status"] == 404
    assert body["detail"]


async def test_readiness_and_health_and_metrics(server):
    assert (await server.get("/healthz"))[0] == 200
    assert await server.get("/readyz") == (200, "application/json", {"ready": True, "shards": [0]})
    server.ready = (False, {"shards": []})
    assert (await server.get("/readyz"))[0] == 503
    async with aiohttp.ClientSession() as session, session.get(server.url + "/metrics") as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        assert "process_resident_memory_bytes" in await response.text()
