"""Prices, carbon and grid events from files and real HTTP servers, what failing ones lead to, and the collector's own port."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import cramjam
import pytest
from aiohttp import web

from services.collector.settings import CollectorSettings
from solyx.bus.memory import MemoryBus
from solyx.events import EnergySeriesPublished, FeedReported, GridEventAnnounced, MetricsScraped, SiteObserved
from solyx.scenario import generate, load
from solyx.settings import SettingsError
from tests.integration.collector_running import Running, running_collector
from tests.unit.collector.writes import series

HOUR = timedelta(hours=1)


class Source:
    """An HTTP JSON source that does as it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.works = True
        self.hangs = False
        self.price = 50.0
        self.requests: list[web.Request] = []
        self.grid: list[dict] = []

    async def prices(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if self.hangs:
            await asyncio.sleep(5)
        if not self.works:
            return web.Response(status=500, text="database on fire")
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        points = [{"begin": int((hour + n * HOUR).timestamp()), "ct": self.price / 10} for n in (0, 1)]
        return web.json_response({"data": {"points": points}})

    async def events(self, _: web.Request) -> web.Response:
        return web.json_response(self.grid)


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    source = Source()
    app = web.Application()
    app.router.add_get("/prices", source.prices)
    app.router.add_get("/events", source.events)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    source.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield source
    await runner.cleanup()


def price_feed(source: Source, *, timeout_s: float = 30.0, **changes) -> dict:
    """One that is stale soon; an answer it waits for, as long as a busy machine takes, unless the test is about that."""
    return {
        "name": "prices",
        "site": "berlin",
        "kind": "price_eur_per_mwh",
        "unit": "ct_per_kwh",
        "time_format": "unix_s",
        "every_s": 0.1,
        "stale_after_s": 0.4,
        "json": {
            "url": source.url + "/prices",
            "params": {"from": "{from}", "zone": "{site}"},
            "list": "data.points",
            "time": "begin",
            "value": "ct",
            "http": {"headers": {"X-Key": "k"}, "auth": {"username": "u", "password": "p"}, "timeout_s": timeout_s},
        },
    } | changes


def statuses(collector: Running, feed: str) -> list[str]:
    return [event.status for event in collector.events(FeedReported) if event.feed == feed]


def known_prices(collector: Running) -> set[float]:
    return {value for event in collector.events(EnergySeriesPublished) for value in event.values if value is not None}


async def test_a_source_that_fails_is_reported_stale_then_fresh_and_another_goes_on(source, tmp_path):
    (tmp_path / "carbon.csv").write_text("time,gco2\n")
    carbon = {
        "name": "carbon",
        "site": "berlin",
        "kind": "carbon_gco2_per_kwh",
        "every_s": 0.1,
        "max_value_age_s": 0,
        "csv": {"file": "carbon.csv", "value": "gco2"},
    }
    config = {"energy": [price_feed(source), carbon], "max_backoff_s": 0.2}
    async with running_collector(tmp_path, config) as collector:
        await collector.until(lambda: known_prices(collector) == {50.0}, "the first prices")
        await collector.until(lambda: statuses(collector, "prices") == ["fresh"], "fresh")
        request = source.requests[0]
        assert request.query["from"].endswith("T00:00:00Z")
        assert request.query["zone"] == "berlin"
        assert request.headers["X-Key"] == "k"
        assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"u:p").decode()

        source.works = False
        await collector.until(lambda: statuses(collector, "prices") == ["fresh", "stale"], "stale")
        (stale,) = [event for event in collector.events(FeedReported) if event.status == "stale"]
        assert "500" in stale.error
        assert "database on fire" in stale.error
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        (tmp_path / "carbon.csv").write_text(f"time,gco2\n{(hour - HOUR).isoformat()},321\n")
        await collector.until(lambda: 321.0 in known_prices(collector), "the other feed's new value")
        assert known_prices(collector) == {50.0, 321.0}  # nothing was made up for the prices

        source.works, source.price = True, 70.0
        await collector.until(lambda: statuses(collector, "prices") == ["fresh", "stale", "fresh"], "fresh again")
        assert 70.0 in known_prices(collector)


async def test_a_source_that_hangs_is_given_up_on_in_time(source, tmp_path):
    source.hangs = True
    async with running_collector(tmp_path, {"energy": [price_feed(source, timeout_s=0.5)]}) as collector:
        await collector.until(lambda: statuses(collector, "prices") == ["stale"], "stale")
        assert "no answer within 0.5 s" in collector.events(FeedReported)[0].error
        async with aiohttp.ClientSession() as client, client.get(f"{collector.url}/readyz") as answer:
            assert answer.status == 200
            assert (await answer.json())["feeds"]["prices"]["stale"] is True


async def test_an_address_that_redirects_is_not_followed_with_our_secrets(source, tmp_path):
    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound(source.url + "/prices")

    app = web.Application()
    app.router.add_get("/prices", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    feed = price_feed(source)
    feed["json"]["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}/prices"
    async with running_collector(tmp_path, {"energy": [feed]}) as collector:
        await collector.until(lambda: statuses(collector, "prices") == ["stale"], "stale")
        assert "302" in collector.events(FeedReported)[0].error
    assert not source.requests
    await runner.cleanup()


async def test_sites_in_the_configuration_are_published_whole(tmp_path):
    machines = [
        {"name": "gpu", "count": 2, "cpu": 8, "memory_gib": 2, "devices": [{"model": "A100", "count": 4}]},
        {"name": "head", "cpu": 0.5, "memory_gib": 1},
    ]
    site = {"name": "lab", "zone": "DE", "nodes": machines, "power": {"w_per_core": 5, "pue": 1.2}}
    async with running_collector(tmp_path, {"sites": [site]}) as collector:
        await collector.until(lambda: collector.events(SiteObserved), "the site")
        (seen,) = collector.events(SiteObserved)
        assert [(node.name, node.cpu_milli) for node in seen.nodes] == [("gpu-0", 8000), ("gpu-1", 8000), ("head", 500)]
        assert seen.nodes[0].devices[0].count == 4
        assert (seen.zone, seen.power.pue, seen.nodes[2].memory_bytes) == ("DE", 1.2, 2**30)


async def test_old_values_are_published_but_count_as_a_failure(tmp_path):
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    (tmp_path / "p.csv").write_text(f"time,value\n{(midnight - 6 * HOUR).isoformat()},42\n")
    feed = {"name": "old", "site": "berlin", "kind": "price_eur_per_mwh", "csv": {"file": "p.csv"}}
    feed |= {"every_s": 0.1, "stale_after_s": 0.2, "max_value_age_s": 3600}
    async with running_collector(tmp_path, {"energy": [feed]}) as collector:
        await collector.until(lambda: statuses(collector, "old") == ["stale"], "stale")
        assert known_prices(collector) == {42.0}
        assert "max_value_age_s" in collector.events(FeedReported)[0].error


async def test_an_https_source_is_checked_unless_told_otherwise(source, tmp_path):
    certificate = Path(__file__).with_name(
        "test_collector_tls.pem"
    )  # of nobody but this test; signs itself, valid to 2100
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    app = web.Application()
    app.router.add_get("/prices", source.prices)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    source.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    feeds = []
    for name, tls in (("checked", {}), ("trusted", {"ca_file": str(certificate)}), ("blind", {"verify": False})):
        feed = price_feed(source, name=name)
        feed["json"]["http"]["tls"] = tls
        feeds.append(feed)
    async with running_collector(tmp_path, {"energy": feeds}) as collector:
        for name, status in (("checked", "stale"), ("trusted", "fresh"), ("blind", "fresh")):
            await collector.until(lambda name=name: statuses(collector, name), f"a report on {name}")
            assert statuses(collector, name)[0] == status
    await runner.cleanup()


async def test_listed_grid_events_are_announced_and_cancelled_when_they_vanish(source, tmp_path):
    later = datetime.now(UTC) + HOUR
    source.grid = [{"id": "dr-1", "from": later.isoformat(), "to": (later + HOUR).isoformat(), "kw": 20}]
    mapping = {"url": source.url + "/events", "event_id": "id", "start": "from", "end": "to", "power_cap": "kw"}
    feed = {"name": "utility", "site": "berlin", "power_unit": "kw", "json": mapping}
    feed |= {"cancel_when_absent": True, "every_s": 0.1}
    async with running_collector(tmp_path, {"grid": [feed]}) as collector:
        await collector.until(lambda: collector.events(GridEventAnnounced), "the event")
        (event,) = collector.events(GridEventAnnounced)
        assert (event.site, event.power_cap_w, event.status) == ("berlin", 20_000, "announced")
        source.grid = []
        await collector.until(lambda: len(collector.events(GridEventAnnounced)) == 2, "its cancellation")
        assert collector.events(GridEventAnnounced)[1].status == "cancelled"


# The port


async def post(collector: Running, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict, str]:
    async with (
        aiohttp.ClientSession() as client,
        client.post(collector.url + path, data=body, headers=headers, skip_auto_headers=["Content-Type"]) as answer,
    ):
        kind = answer.content_type
        return answer.status, await answer.json(content_type=None) if answer.status != 204 else {}, kind


WRITE = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
UP = bytes(cramjam.snappy.compress_raw(series({"__name__": "up", "site": "berlin"}, (1.0, 1_700_000_000_000))))


async def test_a_write_is_answered_204_once_it_is_safe(tmp_path):
    async with running_collector(tmp_path, {}) as collector:
        assert (await post(collector, "/api/v1/write", UP, **WRITE))[0] == 204
        (event,) = collector.events(MetricsScraped)
        assert (event.source, event.series, event.values) == ("berlin", ('up{site="berlin"}',), (1.0,))


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (UP, WRITE | {"Content-Encoding": "gzip"}, 415, "snappy"),
        (UP, WRITE | {"Content-Type": "application/json"}, 415, "remote write 1.0"),
        (UP, WRITE | {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, 415, "1.0"),
        (b"junk", WRITE, 400, "snappy"),
        (bytes(cramjam.snappy.compress_raw(b"\x0b")), WRITE, 400, "wire type"),
        (bytes(200_000), WRITE, 413, "max_samples_per_send"),
        (bytes(cramjam.snappy.compress_raw(bytes(2_000_000))), WRITE, 413, "2000000 bytes"),
    ],
)
async def test_a_write_that_cannot_be_taken_is_refused_with_the_reason(tmp_path, body, headers, status, says):
    limits = {"max_write_bytes": 100_000, "max_decoded_bytes": 1_000_000}
    async with running_collector(tmp_path, {}, **limits) as collector:
        answered, problem, kind = await post(collector, "/api/v1/write", body, **headers)
        assert (answered, problem["status"], kind) == (status, status, "application/problem+json")
        assert says in problem["detail"]
        assert not collector.events(MetricsScraped)


async def test_a_usual_content_type_parameter_is_no_obstacle(tmp_path):
    async with running_collector(tmp_path, {}) as collector:
        kind = "application/x-protobuf;proto=prometheus.WriteRequest"
        assert (await post(collector, "/api/v1/write", UP, **WRITE | {"Content-Type": kind}))[0] == 204


async def test_writers_must_show_the_token(tmp_path):
    async with running_collector(tmp_path, {}, token="sesame") as collector:
        assert (await post(collector, "/api/v1/write", UP, **WRITE))[0] == 401
        assert (await post(collector, "/v1/grid-events", b"{}"))[0] == 401
        assert (await post(collector, "/api/v1/write", UP, **WRITE, Authorization="Bearer sesame"))[0] == 204


async def test_a_grid_event_is_taken_or_its_field_named(tmp_path):
    later = datetime.now(UTC) + HOUR
    times = f'"start": "{later.isoformat()}", "end": "{(later + HOUR).isoformat()}"'
    good = f'{{"event_id": "dr-1", "site": "north", "power_cap_w": 100, {times}}}'
    replayed = load(generate(tmp_path / "scenario", sites=1, hours=1, jobs=1))
    async with running_collector(tmp_path, {}, scenario=replayed) as collector:
        status, event, _ = await post(collector, "/v1/grid-events", good.encode())
        assert (status, event["event_id"]) == (202, "dr-1")
        assert collector.events(GridEventAnnounced)[0].power_cap_w == 100
        status, problem, kind = await post(collector, "/v1/grid-events", good.replace("north", "south").encode())
        assert (status, kind) == (422, "application/problem+json")
        assert [error["field"] for error in problem["errors"]] == ["site"]
        assert (await post(collector, "/v1/grid-events", b"{"))[0] == 400
        assert (await post(collector, "/v1/grid-events", b" " * 70_000))[0] == 413
        assert len(collector.events(GridEventAnnounced)) == 1


async def test_unknown_paths_and_methods_are_problems_too(tmp_path):
    async with running_collector(tmp_path, {}) as collector:
        assert (await post(collector, "/api/v2/write"))[0] == 404
        assert (await post(collector, "/healthz"))[0] == 405


async def test_a_full_buffer_is_answered_503_and_when_to_come_again(tmp_path):
    from solyx.bus.port import Transient

    class Away(MemoryBus):
        away = True

        def append(self, records) -> None:
            if self.away:
                raise Transient("the broker is away", after_s=0.05)
            super().append(records)

    bus = Away()
    async with running_collector(tmp_path, {}, bus=bus, publish_timeout_s=0.1, buffer_bytes=100) as collector:
        status, problem, _ = await post(collector, "/api/v1/write", UP, **WRITE)
        assert (status, "the broker is away" in problem["detail"]) == (503, True)
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{collector.url}/api/v1/write", data=UP, headers=WRITE) as answer,
        ):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        async with aiohttp.ClientSession() as client, client.get(f"{collector.url}/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["broker"] == "the broker is away"
        bus.away = False
        await collector.until(lambda: collector.events(MetricsScraped), "what was taken before")
        assert (await post(collector, "/api/v1/write", UP, **WRITE))[0] == 204


async def test_probes_and_metrics_are_answered(tmp_path):
    async with running_collector(tmp_path, {}) as collector, aiohttp.ClientSession() as client:
        for path, text in (("/healthz", "ok"), ("/readyz", "true"), ("/metrics", "solyx_collector_events")):
            async with client.get(collector.url + path) as answer:
                assert answer.status == 200
                assert text in await answer.text()


async def test_a_port_that_is_taken_is_told_with_what_to_do(tmp_path):
    async with running_collector(tmp_path, {}) as collector:
        port = int(collector.url.rsplit(":", 1)[1])
        with pytest.raises(SettingsError, match=r"SOLYX_COLLECTOR_HTTP_PORT.*choose another port"):
            async with running_collector(tmp_path, {}, http_port=port):
                pass


def test_settings_that_cannot_work_are_refused():
    for name in ("buffer_bytes", "replay_rounds_per_s", "publish_timeout_s"):
        with pytest.raises(SettingsError, match=f"SOLYX_COLLECTOR_{name.upper()}"):
            CollectorSettings(**{name: 0}).check()
    with pytest.raises(SettingsError, match="HISTORY_DAYS"):
        CollectorSettings(history_days=-1).check()
