import io
from datetime import UTC, datetime, timedelta

import msgspec
from rich.console import Console

from devstack.report import Snapshot, make_report, percentile
from devstack.stack import Part
from devstack.view import line, screen
from solyx.ledger import Books, SiteUse, Totals

T0 = datetime(2025, 6, 2, tzinfo=UTC)
KEYS = {
    "jobs": {"submitted", "placed", "allocated", "running", "succeeded", "failed", "cancelled", "lost"},
    "baseline": {"cost_eur", "carbon_kg", "energy_kwh"},
    "latency_ms": {"p50", "p99"},
}


def snapshot(**changes: object) -> Snapshot:
    own = Totals(cost_eur=9.0, carbon_kg=45.0, energy_kwh=100.0)
    fields: dict[str, object] = {
        "scenario": "small",
        "now": T0 + timedelta(hours=30),
        "start": T0,
        "speed": 600.0,
        "wall_s": 10.0,
        "ready_s": 8.0,
        "counts": {"running": 2, "succeeded": 3},
        "total_jobs": 9,
        "accepted": 5,
        "lost": 0,
        "books": Books(
            own=own, baseline=Totals(cost_eur=10.0, carbon_kg=50.0, energy_kwh=101.0), by_site={"north": own}
        ),
        "uses": [
            SiteUse(
                site="north",
                cores=64.0,
                cores_used=16.0,
                gpus=8.0,
                gpus_used=2.5,
                jobs=2,
                price_eur_per_mwh=41.25,
                carbon_gco2_per_kwh=None,
                lost=False,
            )
        ],
        "latencies_ms": [float(value) for value in range(1, 101)],
        "events": 500,
        "events_per_s": 48.0,
        "parts": [Part(name="drm", ready=True, ready_s=1.5, peak_mb=60.0, restarts=2)],
        "peak_mb": 900.0,
        "notices": ["Mon 05:00  site south is lost"],
        "trouble": "",
    }
    return Snapshot(**(fields | changes))


def test_the_report_has_every_key_that_is_promised() -> None:
    report = msgspec.json.decode(msgspec.json.encode(make_report(snapshot())))
    for key, inner in KEYS.items():
        assert inner <= set(report[key])
    assert {"cost_eur", "carbon_kg", "energy_kwh", "events_per_s", "services", "scenario_hours"} <= set(report)
    assert report["services"] == {"drm": {"ready_s": 1.5, "rss_mb": 60.0, "restarts": 2}}
    assert (report["cost_eur"], report["baseline"]["cost_eur"]) == (9.0, 10.0)
    assert (report["scenario_hours"], report["events_per_s"]) == (30.0, 50.0)
    assert report["jobs"]["total"] == 5


def test_a_report_of_nothing_is_a_report() -> None:
    empty = Books(own=Totals(), baseline=Totals(), by_site={})
    report = make_report(snapshot(counts={}, books=empty, uses=[], latencies_ms=[], events=0, wall_s=0.0, parts=[]))
    assert report.latency_ms.p50 is None
    assert report.events_per_s == 0.0


def test_percentiles_are_of_the_values_themselves() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(value) for value in range(1, 101)], 0.99) == 100.0
    assert percentile([], 0.5) is None


def test_the_live_table_shows_jobs_sites_money_processes_and_the_way_in() -> None:
    out = io.StringIO()
    Console(file=out, width=160).print(screen(snapshot(), api="http://127.0.0.1:8080", key="sk_abc"))
    shown = out.getvalue()
    for text in ("running", "succeeded", "north", "16/64", "25 %", "2.5/8", "41.2", "-10.0 %", "at once at home"):
        assert text in shown, text
    for text in ("http://127.0.0.1:8080", "sk_abc", "drm (2 restarts)", "site south is lost", "48", "2025-06-03 06:00"):
        assert text in shown, text


def test_a_line_for_logs_says_the_same_in_short() -> None:
    text = line(snapshot(trouble="the API is overloaded"))
    for part in ("2 running", "3 succeeded", "9.00 EUR (-10.0 %", "45.0 kg CO2", "48 events/s", "overloaded"):
        assert part in text
