"""OpenADR 3 events to caps, and responses to reports."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.core.openadr import OadrEvent, Origin, Program, asked, duration_s, report_of
from services.collector.core.paths import MappingError
from services.collector.model import OpenAdrFeed, OpenAdrSite
from solyx.events import DemandResponseReported

NOW = datetime(2023, 6, 1, 12, tzinfo=UTC)
FEED = OpenAdrFeed(
    name="tso",
    url="https://vtn.example",
    sites=(
        OpenAdrSite(site="berlin", targets=("dc-1",), simple_caps_w=(30e3, 20e3, 0.0)),
        OpenAdrSite(site="texas", resource="tx"),
    ),
)
PROGRAMS = [Program(id="p", program_name="relief")]


def event(number="e", *, hours=1.0, lasts="PT1H", payloads=(("IMPORT_CAPACITY_LIMIT", 40),), unit="KW", **more):
    start = (NOW + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")
    document = {
        "id": number,
        "programID": "p",
        "modificationDateTime": "2023-06-01T11:59:00Z",
        "intervalPeriod": {"start": start, "duration": lasts},
        "intervals": [{"id": n, "payloads": [{"type": k, "values": [v]}]} for n, (k, v) in enumerate(payloads)],
        "payloadDescriptors": [{"payloadType": kind, "units": unit} for kind, _ in payloads] if unit else None,
    }
    return msgspec.convert(document | more, OadrEvent)


def caps(*events, feed=FEED, site="berlin"):
    """Start and end in hours from now, and the cap in kW, at a site."""
    found = asked(events, PROGRAMS, feed, NOW)
    assert not [one for one in found.problems if f" at {site}: " in one]
    hour = timedelta(hours=1)
    return sorted(
        ((one.start - NOW) / hour, (one.end - NOW) / hour, one.power_cap_w / 1e3)
        for one in found.listed
        if one.site == site
    )


def problem(*events) -> str:
    found = asked(events, PROGRAMS, FEED, NOW)
    assert found.problems
    return found.problems[0]


def test_intervals_follow_each_other_and_one_may_say_its_own_time():
    assert caps(event(payloads=[("DISPATCH_SETPOINT", 40), ("DISPATCH_SETPOINT", 30)])) == [(1, 2, 40), (2, 3, 30)]
    own = {"id": 1, "payloads": [{"type": "SIMPLE", "values": [2]}]}
    period = {"intervalPeriod": {"start": "2023-06-01T20:00:00Z", "duration": "PT30M"}}
    assert caps(event(intervals=[own | period])) == [(8, 8.5, 20)]


def test_neighbours_of_one_cap_are_one_window():
    assert caps(event(payloads=[("IMPORT_CAPACITY_LIMIT", 40)] * 3)) == [(1, 4, 40)]


def test_a_level_is_the_power_that_the_site_says_and_level_0_asks_for_nothing():
    assert caps(event(payloads=[("SIMPLE", 0), ("SIMPLE", 1), ("SIMPLE", 3)], unit=None)) == [(2, 3, 30), (3, 4, 0)]
    assert "simple_caps_w" in problem(event(payloads=[("SIMPLE", 1)], unit=None, targets=["texas"]))
    assert "none of 0, 1, 2, 3" in problem(event(payloads=[("SIMPLE", 4)], unit=None))


@pytest.mark.parametrize(("unit", "kw"), [("KW", 40), ("MW", 40_000), ("w", 0.04), (None, 40)])
def test_units_come_from_the_event_then_the_program_then_the_feed(unit, kw):
    assert caps(event(unit=unit)) == [(1, 2, kw)]
    program = {"id": "p", "programName": "relief"}
    units = [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "MW"}]
    found = asked([event(unit=None)], [msgspec.convert(program | {"payloadDescriptors": units}, Program)], FEED, NOW)
    assert found.listed[0].power_cap_w == 40e6


def test_a_unit_that_is_no_power_is_named():
    assert "KWH" in problem(event(unit="KWH"))


@pytest.mark.parametrize(
    ("targets", "sites"),
    [
        (None, {"berlin", "texas"}),
        ([], {"berlin", "texas"}),
        (["dc-1"], {"berlin"}),
        (["texas"], {"texas"}),
        ([{"type": "RESOURCE_NAME", "values": ["tx", "other"]}], {"texas"}),
        ([{"type": "VEN_NAME", "values": ["solyx"]}], {"berlin", "texas"}),
        (["somebody-else"], set()),
    ],
)
def test_targets_of_both_versions_choose_the_sites(targets, sites):
    assert {one.site for one in asked([event(targets=targets)], PROGRAMS, FEED, NOW).listed} == sites


def test_prices_and_alerts_ask_for_no_cap():
    assert caps(event(payloads=[("PRICE", 0.2), ("ALERT_FLEX_ALERT", "save")], unit=None)) == []


def test_a_more_important_event_takes_its_time_from_the_others():
    usual = event("usual", hours=0, lasts="PT4H", priority=5)
    urgent = event("urgent", hours=1, lasts="PT1H", payloads=[("IMPORT_CAPACITY_LIMIT", 50)], priority=0)
    assert caps(usual, urgent) == [(0, 1, 40), (1, 2, 50), (2, 4, 40)]
    ids = {one.event_id for one in asked([usual, urgent], PROGRAMS, FEED, NOW).listed if one.site == "berlin"}
    assert ids == {"tso.usual.0", "tso.usual.0.1", "tso.urgent.0"}


def test_events_of_one_priority_all_stand():
    assert caps(event("a"), event("b", payloads=[("IMPORT_CAPACITY_LIMIT", 30)])) == [(1, 2, 30), (1, 2, 40)]


def test_the_year_1_means_when_the_event_was_written():
    assert caps(event(intervalPeriod={"start": "0001-01-01T00:00:00Z", "duration": "PT1H"})) == [(-1 / 60, 59 / 60, 40)]


@pytest.mark.parametrize("duration", ["P9999Y", "PT0S", None])
def test_a_cap_without_an_end_holds_for_a_month_from_today(duration):
    ((_, end, _),) = caps(event(hours=-100, intervalPeriod={"start": "2023-05-01T00:00:00Z", "duration": duration}))
    assert end == 31 * 24 - 12


def test_intervals_are_repeated_for_the_duration_of_the_event():
    period = {"start": "2023-06-01T13:00:00Z", "duration": "PT1H"}
    levels = [("SIMPLE", 1), ("SIMPLE", 2)]
    looped = event(payloads=levels, unit=None, intervalPeriod=period, duration="PT4H")
    assert caps(looped) == [(1, 2, 30), (2, 3, 20), (3, 4, 30), (4, 5, 20)]
    ids = [one.event_id for one in asked([looped], PROGRAMS, FEED, NOW).listed]
    assert len(set(ids)) == 4


def test_intervals_with_their_own_times_are_not_repeated():
    own = {"intervalPeriod": {"start": "2023-06-01T20:00:00Z", "duration": "PT30M"}}
    interval = {"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [40]}]} | own
    assert caps(event(intervals=[interval], duration="PT24H")) == [(8, 8.5, 40)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT30M", 1800), ("P1DT1H", 90_000), ("PT0.5S", 0.5), ("P0Y0M0DT1H0M0S", 3600), ("P2W", 1_209_600)],
)
def test_durations_are_iso_8601(text, seconds):
    assert duration_s(text, "duration") == seconds


@pytest.mark.parametrize("text", ["", "1h", "P1M", "PT", "P", "-PT1H", "PT1"])
def test_what_is_no_duration_is_named(text):
    with pytest.raises(MappingError, match="duration"):
        duration_s(text, "duration")


def test_one_bad_event_does_not_keep_the_others_from_being_followed():
    found = asked([event("bad", unit="KWH"), event("good")], PROGRAMS, FEED, NOW)
    assert {one.event_id for one in found.listed} == {"tso.good.0"}
    assert all("event bad" in text for text in found.problems)


WINDOWS = st.tuples(st.integers(0, 20), st.integers(1, 6), st.integers(0, 3), st.integers(1, 9))


@given(st.lists(WINDOWS, max_size=8))
def test_at_every_moment_the_strictest_of_the_most_important_caps_holds(windows):
    events = [
        event(str(n), hours=start, lasts=f"PT{hours}H", payloads=[("IMPORT_CAPACITY_LIMIT", kw)], priority=rank)
        for n, (start, hours, rank, kw) in enumerate(windows)
    ]
    found = caps(*events)
    for hour in range(30):
        holding = [kw for start, end, kw in found if start <= hour < end]
        wanted = [(rank, kw) for start, hours, rank, kw in windows if start <= hour < start + hours]
        expected = [kw for rank, kw in wanted if rank == min(wanted)[0]]
        assert sorted(holding) == sorted(expected)


def test_a_report_says_what_was_delivered_and_what_before():
    response = DemandResponseReported(
        event_id="tso.e.0",
        site="berlin",
        start=NOW,
        end=NOW + timedelta(hours=3),
        power_cap_w=40e3,
        status="active",
        baseline_w=52e3,
        now_w=39.5e3,
        mean_w=39.25e3,
        reported_at=NOW,
    )
    report = report_of(response, Origin("p", "e", 0, "dc-1"), FEED)
    (resource,) = report["resources"]
    assert (report["eventID"], report["clientName"], report["reportName"]) == ("e", "solyx", "tso.e.0")
    assert "programID" not in report
    assert resource["resourceName"] == "dc-1"
    assert resource["intervalPeriod"] == {"start": "2023-06-01T12:00:00Z", "duration": "PT10800S"}
    values = {one["type"]: one["values"] for one in resource["intervals"][0]["payloads"]}
    assert values["DEMAND"] == [39.25]
    assert values["BASELINE"] == [52.0]
    assert (
        report_of(response, Origin("p", "e", 0, "x"), msgspec.structs.replace(FEED, version="3.0"))["programID"] == "p"
    )
