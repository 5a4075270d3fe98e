"""What the collector keeps between a VTN's events and the reports on them."""

from datetime import UTC, datetime, timedelta

import msgspec

from services.collector.core.correspondence import KEPT, Correspondence
from services.collector.core.grid import Listed
from services.collector.core.openadr import Asked, Origin
from solyx.events import DemandResponseReported

NOW = datetime(2023, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def listed(*numbers: int) -> Asked:
    """Events of an hour each, one an hour."""
    windows = [
        Listed(
            event_id=f"tso.{n}.0",
            site="berlin",
            start=NOW + n * HOUR,
            end=NOW + (n + 1) * HOUR,
            power_cap_w=1e3,
            status="announced",
        )
        for n in numbers
    ]
    origins = {(one.site, one.event_id): Origin("p", one.event_id, 0, "berlin") for one in windows}
    return Asked(tuple(windows), origins, ())


def response(number: int, status: str = "active") -> DemandResponseReported:
    return DemandResponseReported(
        event_id=f"tso.{number}.0",
        site="berlin",
        start=NOW + number * HOUR,
        end=NOW + (number + 1) * HOUR,
        power_cap_w=1e3,
        status=status,  # pyright: ignore[reportArgumentType]
        reported_at=NOW,
    )


def test_a_response_is_due_once_its_event_was_polled_and_its_window_has_begun() -> None:
    told = Correspondence()
    told.hear(response(0))
    assert told.due() == []
    told.learn(listed(0, 1), NOW)
    told.hear(response(1, "planned"))
    assert [key for key, _, _ in told.due()] == [("berlin", "tso.0.0")]


def test_a_report_can_still_be_sent_when_its_event_is_no_longer_listed() -> None:
    told = Correspondence()
    told.learn(listed(0), NOW)
    told.learn(listed(), NOW + KEPT)
    told.hear(response(0, "ended"))
    assert len(told.due()) == 1


def test_what_is_kept_does_not_grow_with_the_events_that_are_over() -> None:
    told = Correspondence()
    for number in range(200):
        told.learn(listed(number), NOW + number * HOUR)
        told.hear(response(number))
        told.report_ids["berlin", f"tso.{number}.0"] = "r"
        told.hear(msgspec.structs.replace(response(number), event_id=f"never listed {number}"))
    kept = KEPT / HOUR + 2
    assert max(len(told.origins), len(told.report_ids)) <= kept
    assert len(told.waiting) <= 2 * kept
    assert ("berlin", "tso.199.0") in told.origins
