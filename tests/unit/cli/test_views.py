"""What is shown of sites, the grid, routes, the event stream and topics."""

from datetime import UTC, datetime
from typing import Any

from solyx.bus.memory import MemoryBus
from solyx.events import Record, encode
from solyx.events.examples import EXAMPLES
from tests.unit.cli.cli_answers import AT, EVENTS, Solyx

SITE = {
    "site": "north",
    "observed_at": AT,
    "zone": "SE3",
    "nodes": [
        {"name": "n0", "cpu_milli": 8000, "memory_bytes": 2**30, "devices": [{"model": "A100", "count": 4}]},
        {"name": "n1", "cpu_milli": 8000, "memory_bytes": 2**30, "ready": False},
    ],
}


def test_sites_show_capacity_price_and_carbon(solyx: Solyx, gateway: Any) -> None:
    energy = {"site": "north", "price_eur_per_mwh": -12.5, "carbon_gco2_per_kwh": None, "series": [], "forecasts": []}
    gateway.on("GET", "/v1/sites", {"sites": [SITE]})
    gateway.on("GET", "/v1/energy", {"now": AT, "sites": [energy], "feeds": []})
    shown = solyx("sites").out
    for word in ("north", "SE3", "1/2", "16", "4", "-12.50", "–"):
        assert word in shown
    assert solyx("sites", "--json").documents[0]["nodes"][0]["name"] == "n0"


def test_the_grid_shows_the_ask_and_what_is_delivered(solyx: Solyx, gateway: Any) -> None:
    window = {"event_id": "dr-7", "site": "north", "start": AT, "end": AT, "power_cap_w": 45000}
    event = window | {"announced_at": AT}
    response = window | {"status": "short", "detail": "only protected work is left", "now_w": 47500, "reported_at": AT}
    gateway.on("GET", "/v1/grid", {"now": AT, "events": [{"event": event, "response": response}, {"event": event}]})
    shown = " ".join(solyx("grid").out.split())
    for word in ("north", "dr-7", "45.0", "47.5", "short", "announced"):
        assert word in shown
    assert solyx("grid", "--json").documents[0]["events"][0]["response"]["now_w"] == 47500


def test_the_grid_shows_what_a_site_asks_for_because_of_its_price(solyx: Solyx, gateway: Any) -> None:
    window = {"site": "north", "start": AT, "end": AT, "requested_at": AT}
    figures = {"reason": "price_bound", "price_bound_eur_per_mwh": 150, "price_eur_per_mwh": 230, "detail": "up to 230"}
    kept = [{"job_id": "j", "reason": "deadline"}, {"job_id": "k", "reason": "deadline"}]
    answer = window | {
        "asked_w": 3000,
        "relieved_w": 2000,
        "suspended": 4,
        "migrated": 1,
        "kept": kept,
        "answered_at": AT,
    }
    reliefs = [{"request": window | figures, "answer": answer}, {"request": window | figures | {"site": "south"}}]
    gateway.on("GET", "/v1/grid", {"now": AT, "events": [], "reliefs": reliefs})
    shown = " ".join(solyx("grid").out.split())
    for word in ("north", "price_bound", "3.0", "2.0", "4/1/0/0", "2 deadline", "up to 230", "south"):
        assert word in shown


def test_routes_show_path_backup_and_status(solyx: Solyx, gateway: Any) -> None:
    decided = {
        "source": "north",
        "target": "south",
        "revision": 4,
        "path": ["north", "core", "south"],
        "backup": ["north", "south"],
        "latency_ms": 12.3,
        "headroom_bps": 7.5e9,
        "reason": "link_down",
        "decided_at": AT,
    }
    gateway.on("GET", "/v1/routes", {"routes": [{"decided": decided, "status": "applied"}]})
    shown = solyx("routes").out
    for word in ("north core south", "12.3", "7.5", "applied", "link_down"):
        assert word in shown
    assert solyx("routes", "--json").documents[0]["decided"]["backup"] == ["north", "south"]


def test_routes_show_measured_round_trips(solyx: Solyx, gateway: Any) -> None:
    places = {"office": {"round_trip_ms": 21.5, "since": AT}, "exchange": {"since": AT}}
    measured = {"site": "north", "places": places, "measured_at": AT, "valid_until": AT}
    gateway.on("GET", "/v1/routes", {"routes": [], "latencies": [measured]})
    shown = solyx("latencies").out
    for word in ("office", "21.5", "exchange", "no way"):
        assert word in shown
    assert solyx("latencies", "--json").documents == [measured]


def test_watch_prints_events_until_the_stream_ends(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/events", EVENTS)
    shown = solyx("watch", "--last-event-id", "6", "--job", "j1", "--type", "job.placed.v1")
    assert shown.status == 0
    assert "job.placed  j1  north  least_cost" in shown.out
    assert gateway.requests[0].headers["last-event-id"] == "6"
    assert dict(gateway.requests[0].url.params) == {"type": "job.placed.v1", "job": "j1"}
    (event,) = solyx("watch", "--json").documents
    assert (event["id"], event["data"]["subject"]) == ("7", "j1")


def test_watch_leaves_out_what_decisions_are_made_from_unless_asked(solyx: Solyx, gateway: Any) -> None:
    price = b'id: 8\nevent: io.solyx.energy.series_published.v1\ndata: {"time": "T", "subject": "north", "site": "north"}\n\n'
    gateway.on("GET", "/v1/events", EVENTS + price)
    assert "series_published" not in solyx("watch").out
    assert solyx("watch", "--inputs").out.count("north") == 2, "a site that is the subject is named once"


def test_a_topic_is_printed_with_its_unreadable_records_and_tombstones(solyx: Solyx, bus: MemoryBus) -> None:
    placed = next(event for event in EXAMPLES if type(event).TYPE == "io.solyx.job.placed.v1")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    bus.append([encode(placed, source="solyx/cmo", time=now, traceparent=parent)])
    bus.append([Record("placements", "north/j9", "north", b"no json", [])])
    bus.append([Record("placements", "north/j8", "north", None, [])])
    shown = solyx("events", "placements")
    assert shown.status == 0
    for word in ("job.placed", placed.key, "no ce_type header", "(tombstone)"):
        assert word in shown.out
    documents = {document["key"]: document for document in solyx("events", "placements", "--json").documents}
    assert documents[placed.key]["trace_id"] == "ab" * 16
    assert documents[placed.key]["data"]["job_id"] == placed.job_id
    assert documents["north/j9"]["error"] == "no ce_type header"
    assert documents["north/j8"]["data"] is None
    assert len(solyx("events", "placements", "--limit", "2", "--json").documents) == 2


def test_a_topic_that_is_none_is_answered_with_those_that_are(solyx: Solyx, bus: MemoryBus) -> None:
    done = solyx("events", "placement")
    assert done.status == 2
    assert "placements" in done.err
